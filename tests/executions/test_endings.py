"""An execution ends whatever its parties' last words are, and also when they never come."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from redis import Redis

from executions.coordinator.listener import Listener
from executions.coordinator.recovery import Recovery
from executions.models import Execution, PartyRun, PortLease
from executions.states import RunStatus, Status
from tests.simulated import publish_success, publisher, settle_down, status
from workers.contract.events import FAILURE, RUNNING, SUCCESS
from workers.contract.keys import stream_of

pytestmark = pytest.mark.usefixtures("impatient")


def succeed_without_saying_so(execution: Execution, party: str, connection: Redis, directory: Path) -> None:
    """The event with the result is lost on its way; the last one, that its process has let go, is not."""
    events = publisher(execution, party, connection, directory)
    events.publish(RUNNING, "task_started")
    events.publish(SUCCESS, "task_execution", result={"rows": 3})
    events.publish(SUCCESS, "cleanup")
    entries = connection.xrange(stream_of(party))
    [lost] = [i for i, fields in entries if b'"result"' in fields[b"event"]]
    connection.xdel(stream_of(party), lost)


@pytest.fixture
def undecided(execution: Execution, connection: Redis, tmp_path: Path) -> Execution:
    """Alice succeeded; bob's process is gone, and nobody knows what came of it."""
    publish_success(execution, "alice", connection, tmp_path)
    succeed_without_saying_so(execution, "bob", connection, tmp_path)
    Listener(connection).step()
    bob = execution.runs.get(party__name="bob")
    assert (bob.status, bob.released_at is None) == (RunStatus.RUNNING, False)
    return execution


def test_it_ends_when_the_verdict_of_a_party_never_comes(undecided: Execution, connection: Redis) -> None:
    settle_down(Recovery(connection), lambda: status(undecided) == Status.RETRY)
    assert (undecided.error_party, undecided.error_type) == ("bob", "NetworkError")
    assert undecided.error == "bob said that its process has ended, and what came of it never arrived"


def test_it_waits_for_a_verdict_that_is_late(
    undecided: Execution, connection: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recovery, "REPORT_SECONDS", 60)
    recovery = Recovery(connection)
    recovery.step()
    assert status(undecided) == Status.RUNNING
    late = publisher(undecided, "bob", connection, tmp_path, first_sequence=2)
    late.publish(SUCCESS, "task_execution", result={"rows": 3})
    Listener(connection).step()
    recovery.step()
    assert status(undecided) == Status.SUCCESS
    assert undecided.runs.get(party__name="bob").result == {"rows": 3}


def test_it_is_cancelled_when_the_verdict_never_comes(
    undecided: Execution, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recovery, "REPORT_SECONDS", 60)
    undecided.cancel()
    settle_down(Recovery(connection), lambda: status(undecided) == Status.CANCELLED)
    assert undecided.runs.get(party__name="bob").status == RunStatus.STOPPED
    assert not PortLease.objects.exists()


def test_it_ends_at_its_run_limit_when_the_verdict_never_comes(
    undecided: Execution, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recovery, "REPORT_SECONDS", 60)
    Execution.objects.update(started_at=timezone.now() - timedelta(hours=2))
    settle_down(Recovery(connection), lambda: status(undecided) == Status.FAILURE)
    assert undecided.error == "the run passed its time limit of 3600 s"


def test_it_ends_when_the_other_party_fails_and_the_verdict_never_comes(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    succeed_without_saying_so(execution, "bob", connection, tmp_path)
    alice = publisher(execution, "alice", connection, tmp_path)
    alice.publish(FAILURE, "task_execution", error="no column 'uidd'", error_type="ConfigError")
    alice.publish(FAILURE, "cleanup")
    Listener(connection).step()
    settle_down(Recovery(connection), lambda: status(execution) == Status.FAILURE)
    assert (execution.error_party, execution.error) == ("alice", "no column 'uidd'")


@pytest.mark.parametrize("state", ["started", "junk"])
@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "past its limit"])
def test_it_ends_when_a_live_worker_does_not_stop_a_run(
    execution: Execution, connection: Redis, tmp_path: Path, state: str, cancelled: bool
) -> None:
    for run in execution.runs.select_related("party"):
        connection.hset(f"rq:job:{run.job_id}", mapping={"status": state, "worker_name": f"{run.party.name}-1"})
        connection.hset(f"rq:worker:{run.party.name}-1", "state", "busy")
        connection.expire(f"rq:worker:{run.party.name}-1", 60)
        publisher(execution, run.party.name, connection, tmp_path).publish(RUNNING, "task_started")
    PartyRun.objects.update(enqueued_at=timezone.now())
    Listener(connection).step()
    recovery = Recovery(connection)
    if cancelled:
        execution.refresh_from_db()
        execution.cancel()
    else:
        Execution.objects.update(started_at=timezone.now() - timedelta(hours=2))
    recovery.step()
    assert status(execution) == (Status.CANCELLING if cancelled else Status.RUNNING), "they have time to stop"
    long_ago = timezone.now() - Recovery.STOP_LIMIT - timedelta(seconds=1)
    PartyRun.objects.update(stop_requested_at=long_ago)
    settle_down(recovery, lambda: execution.has_ended or status(execution) in (Status.CANCELLED, Status.FAILURE))
    assert execution.status == (Status.CANCELLED if cancelled else Status.FAILURE)
    assert not PortLease.objects.exists()
    for run in execution.runs.all():
        assert not connection.exists(f"rq:job:{run.job_id}"), "a process whose job is gone ends itself"


def test_it_ends_when_a_party_that_ended_does_not_let_go(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    for run in execution.runs.select_related("party"):
        connection.hset(f"rq:job:{run.job_id}", mapping={"status": "started", "worker_name": f"{run.party.name}-1"})
        connection.hset(f"rq:worker:{run.party.name}-1", "state", "busy")
        connection.expire(f"rq:worker:{run.party.name}-1", 60)
        publisher(execution, run.party.name, connection, tmp_path).publish(SUCCESS, "task_execution", result={"n": 1})
    PartyRun.objects.update(enqueued_at=timezone.now())
    Listener(connection).step()
    assert status(execution) == Status.SUCCESS
    PartyRun.objects.update(ended_at=timezone.now() - Recovery.SHUTDOWN_LIMIT - Recovery.STOP_LIMIT)
    settle_down(Recovery(connection), lambda: not PartyRun.objects.filter(released_at=None).exists())
    assert {run.status for run in execution.runs.all()} == {RunStatus.SUCCESS}


@pytest.mark.parametrize(
    "data",
    [
        {"result": {"key": "\ud800"}},
        {"result": {"number": 2**70}},
        {"result": json.loads("[" * 40 + "]" * 40)},
    ],
    ids=["half a character", "a great number", "nested too deeply"],
)
@pytest.mark.parametrize("said", [SUCCESS, FAILURE])
def test_a_verdict_that_cannot_be_stored_is_one_all_the_same(
    execution: Execution, connection: Redis, tmp_path: Path, said: str, data: dict[str, object]
) -> None:
    publish_success(execution, "alice", connection, tmp_path)
    bob = publisher(execution, "bob", connection, tmp_path)
    bob.publish(RUNNING, "task_started")
    bob.publish(said, "task_execution", **data)
    bob.publish(said, "cleanup")
    Listener(connection).step()
    assert status(execution) == Status.FAILURE
    assert (execution.error_party, execution.error_type) == ("bob", "AlgorithmError")
    assert "the control plane cannot store" in execution.error
