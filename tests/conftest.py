from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from controlplane.models import Party
from executions.connection import redis_connection
from executions.models import Execution, PartyRun, PortLease
from executions.states import Status
from tests.composed import documents, make_parties


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


@pytest.fixture
def execution(db: None, connection: Redis) -> Execution:
    """Dispatched: attempt 1 at alice and bob."""
    parties = make_parties()
    execution = Execution.objects.submit(documents())
    Execution.objects.filter(pk=execution.pk).update(status=Status.DISPATCHED, attempt=1)
    for index, party in enumerate(parties.values()):
        run = PartyRun.objects.create(
            execution=execution, party=party, attempt=1, job_id=f"{party.name}-{execution.pk}-1"
        )
        PortLease.objects.create(party=party, port=party.port_first + index, run=run)
    execution.refresh_from_db()
    return execution
