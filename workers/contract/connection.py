"""One way to connect to Redis or Valkey."""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

DEFAULT_URL = "redis://127.0.0.1:6379/0"


def connect(url: str, *, seconds: float = 5, tries: int = 2) -> Redis:
    """Return a client that answers or fails soon: a computation, a request or a step never hangs on Redis.

    ``seconds``: how long it waits for an answer, and ``tries``: how often. redis-py's own default waits and tries again
    for several seconds.
    """
    retry = Retry(NoBackoff(), tries - 1)
    return Redis.from_url(url, socket_connect_timeout=1, socket_timeout=seconds, retry=retry)


#: First words of the errors with which the server refuses writes, and their meaning. It still serves reads.
_REFUSALS = {
    "OOM": "Redis is out of memory (maxmemory); raise maxmemory, or remove what else the server holds",
    "MISCONF": "Redis takes no writes because it cannot save to its disk; free some of the disk, look at its log",
    "READONLY": "Redis takes no writes because it is a read-only replica; name the primary in REDIS_URL",
    "NOREPLICAS": "Redis takes no writes because it lacks replicas (min-replicas-to-write); bring them back",
}


def refusal(error: BaseException) -> str:
    """Return why the server takes no writes for now; empty if the error is another one."""
    if isinstance(error, OutOfMemoryError):
        return _REFUSALS["OOM"]
    if isinstance(error, ReadOnlyError):
        return _REFUSALS["READONLY"]
    if isinstance(error, ResponseError):
        # In a pipeline the error begins with redis-py's own words
        return next((words for code, words in _REFUSALS.items() if f"{code} " in f"{error} "[:2000]), "")
    return ""


def trouble(error: BaseException) -> str:
    """Return what is wrong with Redis, in words, and what to do about it."""
    if isinstance(error, NoPermissionError):
        return (
            "Redis does not permit this to the user in REDIS_URL; give the user the rules that `manage.py redis_acl` "
            "prints"
        )
    if isinstance(error, AuthenticationError):
        return "Redis refused the user or password in REDIS_URL"
    if why := refusal(error):
        return why
    if why := _why_not_connected(error):
        return f"Redis is not reachable: {why}"
    return f"Redis is not reachable ({type(error).__name__}); check REDIS_URL and that the server runs"


#: What is wrong with a server's certificate, by OpenSSL's number, and the remedy.
_CERTIFICATES = {
    9: "its certificate is not valid yet; correct this host's clock, or the certificate",
    10: "its certificate has expired; renew it on the server",
    62: "its certificate is for another host name; write into REDIS_URL the name that the certificate has",
    64: "its certificate is for another address; write into REDIS_URL the name that the certificate has",
}


def _why_not_connected(error: BaseException) -> str:
    """Return what is wrong with TLS, or may be, and the remedy; empty if the error is another one."""
    for cause in _causes(error):
        text = str(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _CERTIFICATES.get(
                cause.verify_code,
                "its certificate is not of a CA that this host trusts; if it is the right server, add the CA's file to "
                "REDIS_URL: ?ssl_ca_certs=/path/to/ca.pem",
            )
        if "handshake operation timed out" in text or "WRONG_VERSION_NUMBER" in text:
            return "it does not answer with TLS, which rediss:// in REDIS_URL asks for; name the server's port for TLS"
        # A server that wants a certificate may just hang up, too: the handshake is then over on this side
        if "CERTIFICATE_REQUIRED" in text or isinstance(cause, ssl.SSLEOFError | ConnectionResetError):
            return (
                "it ended the connection; check that it runs, and REDIS_URL: rediss:// if the server wants TLS, with "
                "ssl_certfile and ssl_keyfile if it wants a certificate of this host"
            )
        if isinstance(cause, ssl.SSLError):
            # OpenSSL's word for it, which quotes nothing
            why = (cause.reason or "error").replace("_", " ").lower()
            return f"TLS failed ({why}); check the files for TLS that REDIS_URL names, and the server"
        # Not a Unix socket's file, of which redis-py says where it connects to, or that it is one
        is_socket = "unix" in str(error) or "connecting to /" in str(error)
        if isinstance(cause, FileNotFoundError | PermissionError) and not is_socket:
            return "a file for TLS that REDIS_URL names cannot be read; correct its path, or who may read it"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def when_it_takes_writes(
    action: Callable[[], Answer],
    *,
    patience: float = math.inf,
    given_up: Callable[[], bool] = lambda: False,
    say: Callable[[str], object] = log.warning,
) -> Answer:
    """Return the result of ``action``, tried again for ``patience`` seconds while Redis takes no writes: otherwise an
    RQ worker would end, and a sender would lose its message. ``say`` is called once with the reason. Raises RedisError.
    """
    until = time.monotonic() + patience
    told = ""
    while True:
        try:
            return action()
        except RedisError as error:
            why = refusal(error)
            if not why or given_up() or time.monotonic() >= until:
                raise
            if why != told:
                say(f"{why}. Waiting; it goes on by itself")
                told = why
        time.sleep(0.5)
