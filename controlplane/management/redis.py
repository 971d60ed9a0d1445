"""A party host's connection to Redis, for its commands."""

from __future__ import annotations

from redis import Redis

from controlplane.environment import environment
from workers.contract.connection import connect
from workers.contract.errors import ConfigError


def connect_to_redis() -> Redis:
    """Return a connection to the server that REDIS_URL names. Raises ConfigError, which quotes nothing of the URL."""
    try:
        return connect(environment.redis_url)
    except ValueError:  # the error's text may hold a part of the password
        raise ConfigError(
            "REDIS_URL is no address of a Redis server; such as redis://user:password@host:6379/0"
        ) from None
