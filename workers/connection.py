"""One way to connect to Redis or Valkey."""

from __future__ import annotations

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

DEFAULT_URL = "redis://127.0.0.1:6379/0"


def connect(url: str) -> Redis:
    """A client that answers or fails soon: a computation, a request or a step never hangs on Redis.

    redis-py's own default waits and tries again for several seconds.
    """
    return Redis.from_url(url, socket_connect_timeout=1, socket_timeout=5, retry=Retry(NoBackoff(), 1))
