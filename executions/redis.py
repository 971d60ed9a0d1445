"""The control plane's connection to Redis or Valkey, and its notes there for the coordinator and the parties."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError

from controlplane.environment import environment
from workers.contract.connection import connect, trouble
from workers.contract.keys import wanted

log = logging.getLogger(__name__)


@cache
def redis_connection() -> Redis:
    """Return this process's client, with a pool of its own."""
    return connect(environment.redis_url)


def drop_foreign(connection: Redis, keys: Iterable[str], kind: str) -> bool:
    """Remove keys of ours that a party has replaced by another type. Returns whether there was any. A party can write
    to its own queue and stream, and must not stop the others by it. Raises RedisError.
    """
    foreign = [key for key in keys if connection.type(key) not in (kind.encode(), b"none")]
    for key in foreign:
        log.warning("%s was replaced by something that is no %s; it was removed", key, kind)
        connection.delete(key)
    return bool(foreign)


WAKE_STREAM = "controlplane:wake"


def wake_coordinator() -> None:
    """Wake the coordinator. Best effort: it looks at the database every second in any case."""
    try:
        redis_connection().xadd(WAKE_STREAM, {"": ""}, maxlen=1)
    except (RedisError, OSError) as error:
        log.warning("the coordinator was not woken: %s", trouble(error))


def call_off(preflight: UUID) -> None:
    """Tell the parties that these checks are no longer needed, so that they do not wait for each other. Best effort: at
    worst they wait in vain for a few seconds."""
    with suppress(RedisError, OSError):
        redis_connection().delete(wanted(str(preflight)))
