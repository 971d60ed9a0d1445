from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from controlplane.models import Party
from executions.connection import redis_connection
from tests.composed import make_parties


@pytest.fixture
def connection() -> Iterator[Redis]:
    """The tests' own Valkey (started by tests.stack), empty."""
    found = redis_connection()
    found.flushdb()
    yield found
    found.flushdb()


@pytest.fixture
def parties(db: None) -> dict[str, Party]:
    return make_parties()
