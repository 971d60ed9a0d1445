"""The control plane's connection to Redis or Valkey."""

from __future__ import annotations

from functools import cache

from redis import Redis

from controlplane.environment import environment
from workers.connection import connect


@cache
def redis_connection() -> Redis:
    """This process's client, with a pool of its own."""
    return connect(environment.redis_url)
