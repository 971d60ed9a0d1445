"""One way to connect to Redis or Valkey."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

DEFAULT_URL = "redis://127.0.0.1:6379/0"


def connect(url: str) -> Redis:
    """Return a client that answers or fails soon: a computation, a request or a step never hangs on Redis.

    redis-py's own default waits and tries again for several seconds.
    """
    return Redis.from_url(url, socket_connect_timeout=1, socket_timeout=5, retry=Retry(NoBackoff(), 1))


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
    return refusal(error) or (
        f"Redis is not reachable ({type(error).__name__}); check REDIS_URL and that the server runs"
    )


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
