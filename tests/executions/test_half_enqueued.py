"""A coordinator that ends, or hesitates, between what it writes to Redis and what it writes to the database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Queue

from controlplane.models import Party
from executions.coordinator import enqueue
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.enqueue import Enqueuer
from executions.coordinator.listener import Listener
from executions.coordinator.recovery import Recovery
from executions.models import Execution, PartyRun, PortLease
from executions.states import Status
from tests.simulated import add_worker, dispatch, publisher, settle_down, status, submit, take
from workers.contract.events import RUNNING
from workers.contract.jobs import STOP_MARK


class Killed(BaseException):
    """The coordinator was killed here."""


def die(*_: Any) -> None:
    raise Killed


@pytest.fixture
def half(workers: None, impatient: None, connection: Redis, monkeypatch: pytest.MonkeyPatch) -> Execution:
    """An execution whose jobs are in Redis, and whose coordinator was killed before it could note so."""
    execution = submit()
    with monkeypatch.context() as patch:
        patch.setattr(Enqueuer, "_note_enqueued", die)
        with pytest.raises(Killed):
            dispatch(Dispatcher(connection))
    assert not PartyRun.objects.exclude(enqueued_at=None)
    assert connection.llen("rq:queue:alice") == connection.llen("rq:queue:bob") == 1
    return execution


def runs_of(execution: Execution) -> dict[str, PartyRun]:
    return {run.party.name: run for run in execution.runs.select_related("party")}


def test_a_run_that_computes_keeps_slot_and_ports_until_it_has_stopped(
    half: Execution, connection: Redis, tmp_path: Path
) -> None:
    for name, run in runs_of(half).items():
        take(connection, run, f"{name}-1")
        publisher(half, name, connection, tmp_path).publish(RUNNING, "task_started")
    Listener(connection).step()
    Dispatcher(connection).step()
    half.refresh_from_db()
    half.cancel()
    recovery = Recovery(connection)
    for _ in range(3):
        recovery.step()
    assert status(half) == Status.CANCELLING, "both parties compute"
    assert PortLease.objects.exists()
    for run in runs_of(half).values():
        connection.hset(f"rq:job:{run.job_id}", "status", "stopped")
    settle_down(recovery, lambda: status(half) == Status.CANCELLED)


def test_a_run_that_was_taken_and_said_nothing_yet_is_stopped_like_any_other(
    half: Execution, connection: Redis
) -> None:
    for name, run in runs_of(half).items():
        take(connection, run, f"{name}-1")
    half.refresh_from_db()
    half.cancel()
    recovery = Recovery(connection)
    for _ in range(3):
        recovery.step()
    assert status(half) == Status.CANCELLING
    assert PortLease.objects.exists()


def test_a_lost_worker_is_found(half: Execution, connection: Redis, tmp_path: Path) -> None:
    for name, run in runs_of(half).items():
        take(connection, run, f"{name}-1")
        publisher(half, name, connection, tmp_path).publish(RUNNING, "task_started")
    Listener(connection).step()
    connection.delete("rq:worker:bob-1")
    recovery = Recovery(connection)
    recovery.step()
    assert runs_of(half)["bob"].error == "the worker of bob is gone, and its job with it"


def test_its_jobs_leave_the_queue_before_it_ends(half: Execution, connection: Redis) -> None:
    half.refresh_from_db()
    half.cancel()
    settle_down(Recovery(connection), lambda: status(half) == Status.CANCELLED)
    assert connection.llen("rq:queue:alice") == connection.llen("rq:queue:bob") == 0
    assert not PortLease.objects.exists()


@pytest.mark.parametrize("when", ["before it watches", "long before it watches", "after it looked"])
@pytest.mark.parametrize("seen", [True, False], ids=["that another one had enqueued", "that nobody had enqueued"])
def test_a_slow_coordinator_adds_no_job_of_a_run_that_has_ended(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch, when: str, seen: bool
) -> None:
    for party in parties:
        add_worker(connection, party)
    execution = submit()
    happened: list[bool] = []

    def cancel_meanwhile() -> None:
        if happened:
            return
        happened.append(True)
        if seen:
            Enqueuer(connection).missing()
        execution.refresh_from_db()
        execution.cancel()
        settle_down(Recovery(connection), lambda: status(execution) == Status.CANCELLED)
        for run in execution.runs.all():
            assert 0 < connection.ttl(f"rq:job:{run.job_id}") <= Recovery.MARK_SECONDS
            if when == "long before it watches":
                connection.delete(f"rq:job:{run.job_id}")

    def first(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            cancel_meanwhile()
            return function(*args, **options)

        return call

    if when != "after it looked":
        monkeypatch.setattr(enqueue, "drop_foreign", first(enqueue.drop_foreign))
    else:
        monkeypatch.setattr(Queue, "enqueue_job", first(Queue.enqueue_job))
    dispatch(Dispatcher(connection))
    assert happened
    assert connection.llen("rq:queue:alice") == connection.llen("rq:queue:bob") == 0
    for run in execution.runs.all():
        assert set(connection.hgetall(f"rq:job:{run.job_id}")) <= {STOP_MARK.encode()}, "nothing of it is kept"


def test_a_key_of_the_wrong_kind_does_not_keep_an_unsent_run_from_its_end(half: Execution, connection: Redis) -> None:
    for name, run in runs_of(half).items():
        connection.delete(f"rq:job:{run.job_id}", f"rq:queue:{name}")
        connection.set(f"rq:job:{run.job_id}", "junk")
    half.refresh_from_db()
    half.cancel()
    settle_down(Recovery(connection), lambda: status(half) == Status.CANCELLED)
