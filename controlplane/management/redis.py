"""The connection to Redis of commands."""

from __future__ import annotations

from redis import Redis
from redis.exceptions import RedisError

from controlplane.environment import environment
from workers.contract.connection import connect
from workers.contract.errors import ConfigError


def connect_to_redis() -> Redis:
    """Return a connection to the server that REDIS_URL names. Raises ConfigError, which quotes nothing of the URL."""
    try:
        connection = connect(environment.redis_url)
        connection.connection_pool.make_connection()  # looks at the options, and connects to nothing
    except ValueError:  # the error's text may hold a part of the password
        raise ConfigError(
            "REDIS_URL is no address of a Redis server; such as redis://user:password@host:6379/0"
        ) from None
    except (TypeError, RedisError):
        raise ConfigError(
            "REDIS_URL has an option that does not exist, or not for this kind of address; such as "
            "rediss://user:password@host:6379/0?ssl_ca_certs=/path/to/ca.pem"
        ) from None
    return connection
