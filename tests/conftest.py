from __future__ import annotations

import gc
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from redis import Redis
from rest_framework.test import APIClient

from controlplane.models import Party
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.listener import Listener
from executions.coordinator.recovery import Recovery
from executions.coordinator.validity import Validity
from executions.models import Execution, PartyRun, PortLease
from executions.patience import Since
from executions.redis import redis_connection
from executions.states import Status
from tests.composed import admin_client, api_client, documents, make_parties, superuser
from tests.simulated import add_worker

if TYPE_CHECKING:
    from tests.parties import Processes

# What these compare is to be seen where it differs
pytest.register_assert_rewrite("tests.differential")

#: Files that take longest, in this order: three run at a time, and one that began last would run on alone.
LONGEST = (
    "test_differential", "test_every_address", "test_main_job", "test_accuracy", "test_training", "test_components",
    "test_full_redis",
    "test_chaos", "test_restore", "test_live_devices", "test_examples", "test_composing_in_browser",
    "test_chaos_cleanup", "test_scale", "test_life_of_executions", "test_isolation", "test_large_results",
    "test_worker", "test_tls_links", "test_devices", "test_large", "test_party_host",
)  # fmt: skip

#: Files that go through the same code over and over. To measure what they cover would take them a third longer, and
#: other tests cover it.
OVER_AND_OVER = (
    "test_any_json", "test_isolation", "test_life_of_executions", "test_lock_order", "test_scale", "test_schema_fuzz",
    "test_upgrade",
)  # fmt: skip


def pytest_configure() -> None:
    # Each test client has middleware of its own, which would look for all static files first: a tenth of a second
    settings.WHITENOISE_AUTOREFRESH = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    for item in items:
        if item.path.stem in OVER_AND_OVER:
            item.add_marker("no_cover")


def pytest_collection_finish() -> None:
    # What was imported stays: collections of garbage, eleven of them as pytest ends, need not go through it each time
    gc.collect()
    gc.freeze()


@pytest.fixture
def connection() -> Iterator[Redis]:
    """The tests' own Valkey (started by tests.stack), empty."""
    found = redis_connection()
    found.flushdb()
    yield found
    found.flushdb()


@pytest.fixture(autouse=True)
def right_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock is set in most tests; rather they set the times in the database back, and mean it."""

    def seconds(since: Since, limit: timedelta = timedelta()) -> float:
        return (timezone.now() - since.at).total_seconds()

    monkeypatch.setattr(Since, "seconds", seconds)
    monkeypatch.setattr(Since, "whole_seconds", property(seconds))
    monkeypatch.setattr(Since, "began", property(lambda since: since.at.timestamp()))


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step does all there is: on a busy machine the time that it may take can be over after the first thing."""
    monkeypatch.setattr(Listener, "REPORT_SECONDS", 60.0)
    monkeypatch.setattr(Dispatcher, "STEP_SECONDS", 60.0)
    monkeypatch.setattr(Validity, "STEP_SECONDS", 60.0)


@pytest.fixture
def parties(db: None) -> dict[str, Party]:
    return make_parties()


@pytest.fixture
def admin(db: None) -> Client:
    """The admin as a superuser has it."""
    return admin_client(superuser())


@pytest.fixture
def api(db: None) -> APIClient:
    """The REST API as a superuser has it."""
    return api_client(superuser())


@pytest.fixture
def workers(parties: dict[str, Party], connection: Redis) -> None:
    """A live worker of each party."""
    for party in parties:
        add_worker(connection, party)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery takes for lost at once what looks lost."""
    for name in ("GRACE_SECONDS", "REPORT_SECONDS"):
        monkeypatch.setattr(Recovery, name, 0)


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


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Of the parties of tests.parties, started when they are needed, for all files that a pytest process runs."""
    from tests.parties import Processes  # pandas, which most files do without

    made = Processes(tmp_path_factory.mktemp("processes"))
    yield made
    made.end()
