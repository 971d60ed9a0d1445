"""Looks at all that a party.toml names, as a run would find it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from workers.contract.errors import ConfigError, SecretFlowTaskError
from workers.contract.registry import TASK_EXECUTOR_REGISTRY
from workers.contract.wording import hint
from workers.host.party import PartyHost
from workers.host.permits import logs_sent
from workers.host.sources import readable


@dataclass(frozen=True, slots=True)
class Finding:
    """Something of party.toml, and how it is."""

    what: str
    said: str
    is_right: bool = True


def inspect(host: PartyHost, path: Path) -> Iterator[Finding]:
    """Yield what there is to say of a party.toml that could be read. ``path``: its file."""
    yield _found("party.toml", lambda: _private(path, others_may_read=True))
    yield _found("task types", lambda: _known_types(host))
    yield _found("output_dir", lambda: _outputs(host))
    yield _found("signing key", lambda: f"{host.signer.public_key}")
    yield _found("control plane", lambda: f"follows {', '.join(host.orders.key_ids)}")
    yield Finding("logs", logs_sent(host))
    if host.tls:
        yield _found("tls", lambda: _certificates(host))
    for name, entry in host.entries.items():
        yield _found(f"dataset {name}", lambda name=name: _table(host, name))  # type: ignore[misc]
        if entry.expires and date.today() > entry.expires:
            yield Finding(
                f"dataset {name}", f"expired on {entry.expires:%Y-%m-%d}; set expires anew, or remove it", False
            )
        if entry.uses is not None and host.uses.taken(name) >= entry.uses:
            yield Finding(f"dataset {name}", f"was read by all {entry.uses:,} executions that may; raise uses", False)


def _found(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, look())
    except SecretFlowTaskError as error:
        return Finding(what, str(error), False)
    except OSError as error:
        return Finding(what, f"cannot be looked at: {error.strerror}", False)


def _private(path: Path, *, others_may_read: bool = False) -> str:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (0o022 if others_may_read else 0o077):
        right = "644 or less" if others_may_read else "700"
        raise ConfigError("{} has mode {:o}, so that others can change or read it; chmod it to {}", path, mode, right)
    return str(path)


def _known_types(host: PartyHost) -> str:
    every = [*host.policy.task_types, *(name for entry in host.entries.values() for name in entry.task_types or ())]
    for name in every:
        if name != "*" and name not in TASK_EXECUTOR_REGISTRY:
            raise ConfigError("there is no task type {!r}; {}", name, hint(name, TASK_EXECUTOR_REGISTRY))
    return ", ".join(host.policy.task_types)


def _outputs(host: PartyHost) -> str:
    host.prepare_directories()
    if host.is_of_another_user:
        raise ConfigError("{} is another user's; run this as the user who runs the worker", host.output_dir)
    return _private(host.output_dir)


def _certificates(host: PartyHost) -> str:
    if host.tls:
        host.tls.check(host.name)
    return "peers accept its certificate"


def _table(host: PartyHost, name: str) -> str:
    with host.workdirs.private("check") as directory:
        [table] = readable({"": host.registered()[name]}, directory).values()
        found = host.describe(table)
    return f"{found['rows']:,} rows, {len(found['columns']):,} columns: {', '.join(found['columns'])}"
