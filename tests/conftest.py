from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from executions.connection import redis_connection


@pytest.fixture
def connection() -> Iterator[Redis]:
    """The tests' own Valkey (started by tests.stack), empty."""
    found = redis_connection()
    found.flushdb()
    yield found
    found.flushdb()
