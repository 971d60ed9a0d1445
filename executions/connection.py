"""The control plane's connection to Redis or Valkey."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache

from redis import Redis

from controlplane.environment import environment
from workers.contract.connection import connect

log = logging.getLogger(__name__)


@cache
def redis_connection() -> Redis:
    """This process's client, with a pool of its own."""
    return connect(environment.redis_url)


def drop_foreign(connection: Redis, keys: Iterable[str], kind: str) -> bool:
    """Remove keys of ours in whose place a party has put something of another kind; whether there was any.

    A party can write to its own queue and stream. What it does to them must not stop the others. Raises RedisError.
    """
    foreign = [key for key in keys if connection.type(key) not in (kind.encode(), b"none")]
    for key in foreign:
        log.warning("%s was replaced by something that is no %s; it was removed", key, kind)
        connection.delete(key)
    return bool(foreign)
