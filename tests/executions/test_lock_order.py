"""Coordinators beside one another, and operators who cancel, never wait for each other in a circle."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from django.db import OperationalError
from django.db import connection as database
from redis import Redis

from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.listener import Listener
from executions.coordinator.recovery import Recovery
from executions.models import Execution, NotCancellable, PartyRun, PortLease
from executions.states import ENDED
from tests.composed import make_parties
from tests.simulated import add_worker, pass_checks, publisher, submit, take
from workers.contract.events import FAILURE, RUNNING, SUCCESS

SECONDS = 6.0


def deadlocks() -> int:
    """How many PostgreSQL has found in this database; SQLite has one lock, and so none."""
    if database.vendor != "postgresql":
        return 0
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_in_a_circle(connection: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRACE_SECONDS", "REPORT_SECONDS"):
        monkeypatch.setattr(Recovery, name, 0)
    parties = make_parties()
    for party in parties:
        for worker in range(6):
            add_worker(connection, party, str(worker))
    before, until, errors = deadlocks(), time.monotonic() + SECONDS, []

    def again_and_again(step: object, *, seed: int) -> None:
        draw = random.Random(seed)
        try:
            while time.monotonic() < until:
                try:
                    step(draw)  # type: ignore[operator]
                except OperationalError as error:
                    if "database is locked" not in str(error):  # SQLite's, which is waited for elsewhere
                        errors.append(error)
                finally:
                    database.close()  # back to the pool, which has fewer than there are threads
        except BaseException as error:
            errors.append(error)
        finally:
            database.close()

    def coordinate(draw: random.Random) -> None:
        listener, dispatcher, recovery = Listener(connection), Dispatcher(connection), Recovery(connection)
        for _ in range(5):
            listener.step()
            dispatcher.step()
            pass_checks()
            recovery.step()

    def compute(draw: random.Random) -> None:
        """Parties take jobs, and report whatever comes to their minds, several runs of one execution at once."""
        runs = list(PartyRun.objects.filter(released_at=None).select_related("party", "execution")[:8])
        draw.shuffle(runs)
        for run in runs:
            take(connection, run, f"{run.party.name}-1")
            events = publisher(run.execution, run.party.name, connection, tmp_path / str(draw.random()))
            events.publish(RUNNING, "task_started")
            outcome = draw.choice([SUCCESS, FAILURE])
            events.publish(outcome, "task_execution", error="odd", error_type="NetworkError", result={"n": 1})
            events.publish(outcome, "cleanup")

    def operate(draw: random.Random) -> None:
        if Execution.objects.exclude(status__in=ENDED).count() < 8:
            submit()
        for execution in list(Execution.objects.exclude(status__in=ENDED)[:3]):
            if draw.random() < 0.2:
                with suppress(NotCancellable):
                    execution.cancel()

    threads = [
        threading.Thread(target=again_and_again, args=[step], kwargs={"seed": seed})
        for seed, step in enumerate([coordinate, coordinate, coordinate, compute, operate])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    time.sleep(1)  # PostgreSQL counts a little later
    assert deadlocks() == before
    assert Execution.objects.filter(status__in=ENDED).exists(), "something was to wait for"
    assert PortLease.objects.filter(run__released_at__isnull=False).count() == 0
