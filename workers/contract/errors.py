"""The error classes that a task can end with, and the rules that map foreign exceptions onto them.

SecretFlow reports nearly everything as a ``RuntimeError`` with text from C++ (docs/secretflow.md); the rules match
texts that were seen with SecretFlow 1.14.0b0.
"""

from __future__ import annotations

import errno
import re
from typing import Any

from workers.contract.wording import MayTell, Text


class SecretFlowTaskError(Exception):
    """Base of all errors a task can end with.

    ``str()`` is fit to show on the host where it was raised. What leaves the host is :meth:`told`.
    """

    #: Whether the failure only echoes that of a peer, so that it must not be shown as the first cause.
    caused_by_peer = False

    def __init__(self, text: str | Text = "", *gaps: Any) -> None:
        """``text``: a constant, with a gap for each name of this host; see :class:`Text`."""
        super().__init__(text, *gaps)
        self.text = text if isinstance(text, Text) else Text(text, *gaps)

    def __str__(self) -> str:
        return str(self.text)

    def told(self, may_tell: MayTell) -> str:
        """Return the text without what may not be told."""
        return self.text.told(may_tell).rstrip("; ")


class ConfigError(SecretFlowTaskError):
    """A document is wrong, or names something this party does not have."""


class DeviceConfigError(ConfigError):
    """A device's settings are wrong."""


class ClusterInitError(SecretFlowTaskError):
    """The cluster did not come up."""


class NetworkError(SecretFlowTaskError):
    """A peer or the link to it went away."""


class ResourceError(SecretFlowTaskError):
    """A port, memory, disk or slot is short for now."""


class AlgorithmError(SecretFlowTaskError):
    """The computation itself failed."""


class PeerError(NetworkError):
    """A peer reported that it failed; its own report says why."""

    caused_by_peer = True


#: As of `ulimit -f`, or of the file system.
_FILES_LIMITED = "a file would be larger than this host lets its worker's files be"
#: Patterns for the lower-cased text of an exception and its causes; the first match wins.
_RULES: tuple[tuple[re.Pattern[str], type[SecretFlowTaskError], str], ...] = tuple(
    (re.compile(pattern), error, message)
    for pattern, error, message in (
        (
            r"duplicate keys were detected",
            ConfigError,
            "the key columns hold duplicate values; remove them, or name the party in duplicate_keys",
        ),
        (r"psi configs are not consistent", ConfigError, "the parties were given different PSI parameters"),
        (r"columns? .* not found in table", ConfigError, "a key column is missing from the table"),
        (r"input file .* not exists", ConfigError, "the input table is missing on this host"),
        (
            r"type not found, |type mismatch .*ashr",
            DeviceConfigError,
            "the parties were given different SPU protocols or fields",
        ),
        (r"jobname mis-match", ConfigError, "the parties were given different job names"),
        (r"prot_invalid|only for 3pc", DeviceConfigError, "the SPU protocol does not suit the number of parties"),
        (
            r"server failed start|failed to bind to address|address already in use",
            ResourceError,
            "a leased port is already in use on this host",
        ),
        (
            r"ssl handshake failed|is not in peer certificate",
            ConfigError,
            "the TLS handshake with a peer failed; compare the certificates and the CA that the parties use",
        ),
        (
            r"fail to initialize channel|name or service not known|temporary failure in name",
            NetworkError,
            "a peer's address cannot be resolved",
        ),
        (
            r"get data timeout|connect to mesh failed|failed to setup connection|failed to send|"
            r"connection (reset|refused|closed|timed out)|broken pipe|host is down|"
            r"no route to host|network is unreachable|"
            r"statuscode\.unavailable|deadline.?exceeded",
            NetworkError,
            "the link to a peer broke",
        ),
        (r"no space left|disk quota", ResourceError, "the disk is full"),
        (r"file too large", ResourceError, _FILES_LIMITED),
        (
            r"writerecordbatch failed",  # it does not say why
            ResourceError,
            "PSI could not write its temporary files: the disk of output_dir is full, or this host limits its files",
        ),
        (r"cannot allocate memory|out of memory|bad_alloc", ResourceError, "memory ran out"),
    )
)


def classify(error: BaseException) -> SecretFlowTaskError:
    """Return the error of these classes for any exception that ended a task.

    For a known failure only the rule's text is shown: SecretFlow's text holds paths, C++ stacks and sometimes data. An
    unknown failure becomes an AlgorithmError that names only the exception's type; the full text belongs in the party's
    own log.
    """
    if isinstance(error, SecretFlowTaskError):
        return error
    chain = chain_of(error)
    names = {type(e).__name__ for e in chain}
    if "FedRemoteError" in names:
        return PeerError("a peer failed; see its own error")
    if "JobTimeoutException" in names:
        return AlgorithmError("the run passed its time limit")
    for cause in chain:
        if isinstance(cause, SecretFlowTaskError):  # the error was raised in a call that SecretFlow made for us
            return cause
        if isinstance(cause, MemoryError):
            return ResourceError("memory ran out")
        if (isinstance(cause, OSError) and cause.errno in (errno.EAGAIN, errno.ENOMEM)) or _NO_THREAD in str(cause):
            return ResourceError("this host has no room for another thread or process, or its memory ran out")
        if isinstance(cause, FileNotFoundError):
            return ConfigError("a file of this run is missing on this host: was a dataset or output_dir removed?")
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return ResourceError("the disk is full")
        if isinstance(cause, OSError) and cause.errno == errno.EFBIG:
            return ResourceError(_FILES_LIMITED)
        if isinstance(cause, OSError) and cause.errno in (errno.EADDRINUSE,):
            return ResourceError("a leased port is already in use on this host")
    text = "\n".join(str(e) for e in chain).lower()
    for pattern, kind, message in _RULES:
        if pattern.search(text):
            return kind(message)
    name = Text(type(chain[-1]).__name__)
    return AlgorithmError("the computation failed with {}; the party's worker log has the details", name)


#: Python's text where the system refuses a thread.
_NO_THREAD = "can't start new thread"
_FED_ERRORS = ("FedLocalError", "FedRemoteError")


def chain_of(error: BaseException) -> list[BaseException]:
    """Yield the exception, the one that fed wrapped (its ``cause()``), and those that it was raised from."""
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop(0)
        if current is None or current in seen:
            continue
        seen.append(current)
        wrapped = current.cause() if type(current).__name__ in _FED_ERRORS else None  # type: ignore[attr-defined]
        pending += [wrapped if isinstance(wrapped, BaseException) else None, current.__cause__, current.__context__]
    return seen


#: The error classes by name, as events carry it.
ERRORS: dict[str, type[SecretFlowTaskError]] = {
    kind.__name__: kind
    for kind in (ConfigError, DeviceConfigError, ClusterInitError, NetworkError, ResourceError, AlgorithmError)
}


def is_link(name: str) -> bool:
    """Return whether the error class of this name is that of a broken link, which another party may have caused."""
    return issubclass(ERRORS.get(name, Exception), NetworkError)


def contract_name(error: SecretFlowTaskError) -> str:
    """Return the name of an error's class as it is sent: subclasses such as PeerError are sent as their base."""
    return next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in ERRORS), "AlgorithmError")
