"""Stopping, cancelling, loss and retries, against a real Valkey; the parties' workers are only their keys there."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone
from redis import Redis

from controlplane.environment import environment
from controlplane.models import Party
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.recovery import Recovery
from executions.coordinator.settle import settle
from executions.coordinator.waiting import WaitingList
from executions.models import Execution, NotCancellable, PartyCheck, PartyRun, PortLease, Preflight
from executions.states import RunStatus, Status, transition
from tests.simulated import add_worker, begin, dispatch, finish, settle_down, status, submit, take
from workers.contract.jobs import STOP_MARK


@pytest.fixture
def dispatched(workers: None, impatient: None, connection: Redis) -> Execution:
    execution = submit()
    dispatch(Dispatcher(connection))
    execution.refresh_from_db()
    return execution


def test_it_finds_a_lost_worker_stops_the_other_party_and_retries(dispatched: Execution, connection: Redis) -> None:
    runs = begin(dispatched, connection)
    commands = connection.pubsub()
    commands.subscribe("rq:pubsub:alice-1")
    connection.delete("rq:worker:bob-1")  # its key expired
    recovery = Recovery(connection)
    recovery.step()
    runs["bob"].refresh_from_db()
    assert (runs["bob"].status, runs["bob"].error) == (
        RunStatus.LOST, "the worker of bob is gone, and its job with it",
    )  # fmt: skip
    recovery.step()
    messages = [commands.get_message(timeout=1) for _ in range(2)]
    assert json.loads(messages[1]["data"]) == {"command": "stop-job", "job_id": runs["alice"].job_id}
    connection.hset(f"rq:job:{runs['alice'].job_id}", "status", "stopped")
    settle_down(recovery, lambda: status(dispatched) == Status.RETRY)
    assert dispatched.error_party == "bob"
    assert not PortLease.objects.exists()
    Execution.objects.update(due_at=timezone.now())
    recovery.step()
    assert status(dispatched) == Status.QUEUED
    add_worker(connection, "bob", "2")
    dispatch(Dispatcher(connection))
    assert (status(dispatched), dispatched.attempt) == (Status.DISPATCHED, 2)
    assert [c.to_status for c in dispatched.changes.all()] == [
        "QUEUED", "DISPATCHED", "RUNNING", "RETRY", "QUEUED", "DISPATCHED",
    ]  # fmt: skip


def test_a_retry_waits_for_a_worker_for_as_long_as_it_may_and_takes_no_further_tries(
    dispatched: Execution, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "worker_grace_seconds", 0)
    monkeypatch.setattr(WaitingList, "WHOLE_SECONDS", 0)
    begin(dispatched, connection)
    recovery, dispatcher = Recovery(connection), Dispatcher(connection)
    dispatched.runs.update(status=RunStatus.LOST, error="x", error_type="NetworkError", ended_at=timezone.now(),
                           released_at=timezone.now())  # fmt: skip
    settle(dispatched.pk)
    Execution.objects.update(due_at=timezone.now())
    recovery.queue_due_retries()
    # Its key lives on for some seconds, in which it is asked for its checks
    dispatcher.step()
    connection.delete("rq:worker:bob-1")
    dispatcher.step()
    PartyCheck.objects.filter(party__name="alice").update(answered_at=timezone.now(), results=[])
    PartyCheck.objects.filter(party__name="bob").update(heard_at=timezone.now() - timedelta(minutes=1))
    Preflight.objects.update(requested_at=timezone.now() - timedelta(seconds=1))
    dispatcher.step()
    assert status(dispatched) == Status.QUEUED
    assert dispatched.waiting_for.startswith("bob has no live worker")
    add_worker(connection, "bob", "2")
    dispatch(dispatcher)
    assert (status(dispatched), dispatched.attempt) == (Status.DISPATCHED, 2)
    assert dispatched.retries == {"NetworkError": 1}


def test_a_retry_that_no_worker_comes_for_ends_at_its_limit(
    dispatched: Execution, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "worker_grace_seconds", 0)
    begin(dispatched, connection)
    dispatched.runs.update(status=RunStatus.LOST, error="x", error_type="NetworkError", ended_at=timezone.now(),
                           released_at=timezone.now())  # fmt: skip
    settle(dispatched.pk)
    Execution.objects.update(due_at=timezone.now(), dispatch_limit_seconds=60)
    Recovery(connection).queue_due_retries()
    connection.delete("rq:worker:bob-1")
    Execution.objects.update(queued_at=timezone.now() - timedelta(seconds=61))
    Dispatcher(connection).step()
    assert status(dispatched) == Status.FAILURE
    assert dispatched.error.startswith("was not dispatched within 60 s: bob has no live worker; start")


def test_a_report_may_be_among_what_is_not_read_yet(dispatched: Execution, connection: Redis) -> None:
    runs = begin(dispatched, connection)
    for number in range(300):
        connection.xadd("events:alice", {"of another": number})
    for name, run in runs.items():
        connection.hset(f"rq:job:{run.job_id}", "status", "finished")
        runs[name].refresh_from_db()
    recovery = Recovery(connection)
    recovery.step()
    assert {r.party.name: r.status for r in dispatched.runs.all()} == {"alice": "RUNNING", "bob": "LOST"}
    connection.xtrim("events:alice", 0)
    connection.xadd("events:alice", {"came after": 1})
    settle_down(recovery, lambda: dispatched.runs.get(party__name="alice").status != RunStatus.RUNNING)


def test_it_leaves_a_worker_that_comes_back_nothing_to_go_on_with(dispatched: Execution, connection: Redis) -> None:
    runs = begin(dispatched, connection)
    connection.delete("rq:worker:bob-1")
    Recovery(connection).step()
    assert not connection.exists(f"rq:job:{runs['bob'].job_id}"), "a worker stops a job whose key is gone"


def test_it_does_not_retry_while_a_process_of_the_old_attempt_is_left(dispatched: Execution, connection: Redis) -> None:
    runs = begin(dispatched, connection)
    dispatched.runs.update(status=RunStatus.FAILURE, error="x", error_type="NetworkError", ended_at=timezone.now())
    settle(dispatched.pk)
    assert status(dispatched) == Status.RETRY
    Execution.objects.update(due_at=timezone.now())
    recovery = Recovery(connection)
    recovery.queue_due_retries()
    assert status(dispatched) == Status.RETRY
    PartyRun.objects.filter(pk=runs["alice"].pk).update(released_at=timezone.now())
    recovery.queue_due_retries()
    assert status(dispatched) == Status.RETRY
    PartyRun.objects.update(released_at=timezone.now())
    recovery.queue_due_retries()
    assert status(dispatched) == Status.QUEUED


def test_it_ends_a_run_whose_worker_has_left_its_job(dispatched: Execution, connection: Redis) -> None:
    """Redis was away and the party's disk full as the job ended: nobody could note it, nor report anything."""
    runs = begin(dispatched, connection)
    recovery = Recovery(connection)
    recovery.step()
    connection.hset("rq:worker:bob-1", mapping={"state": "idle"})
    recovery.step()
    assert status(dispatched) == Status.RUNNING, "it still names the job"
    connection.hdel("rq:worker:bob-1", "current_job")
    settle_down(recovery, lambda: PartyRun.objects.get(pk=runs["bob"].pk).status == RunStatus.LOST)
    runs["bob"].refresh_from_db()
    assert runs["bob"].error == "the job at bob ended without a report"
    connection.hset(f"rq:job:{runs['alice'].job_id}", "status", "stopped")
    settle_down(recovery, lambda: status(dispatched) == Status.RETRY)


@pytest.mark.parametrize("state", ["finished", "failed", "canceled"])
def test_it_ends_a_run_whose_job_ended_without_a_report(dispatched: Execution, connection: Redis, state: str) -> None:
    runs = begin(dispatched, connection)
    connection.hset(f"rq:job:{runs['bob'].job_id}", "status", state)
    recovery = Recovery(connection)
    recovery.step()
    runs["bob"].refresh_from_db()
    assert (runs["bob"].status, runs["bob"].error) == (RunStatus.LOST, "the job at bob ended without a report")
    assert runs["bob"].released_at


def test_it_takes_jobs_that_redis_lost_for_lost(dispatched: Execution, connection: Redis) -> None:
    begin(dispatched, connection)
    connection.flushdb()
    settle_down(Recovery(connection), lambda: status(dispatched) == Status.RETRY)
    assert {r.status for r in dispatched.runs.all()} <= {RunStatus.LOST, RunStatus.STOPPED}
    assert not PartyRun.objects.filter(released_at=None).exists()


def test_it_stops_a_run_at_its_time_limit(dispatched: Execution, connection: Redis) -> None:
    runs = begin(dispatched, connection)
    Execution.objects.update(started_at=timezone.now() - timedelta(hours=2))
    recovery = Recovery(connection)
    recovery.step()
    for run in runs.values():
        connection.hset(f"rq:job:{run.job_id}", "status", "stopped")
    settle_down(recovery, lambda: status(dispatched) == Status.FAILURE)
    assert (dispatched.error, dispatched.error_type) == ("the run passed its time limit of 3600 s", "AlgorithmError")


def test_it_gives_up_on_a_job_that_no_worker_begins(dispatched: Execution, connection: Redis) -> None:
    PartyRun.objects.update(dispatched_at=timezone.now() - timedelta(minutes=1))
    settle_down(Recovery(connection), lambda: status(dispatched) == Status.RETRY)
    assert "began the job within 30 s" in dispatched.error
    assert connection.llen("rq:queue:alice") == connection.llen("rq:queue:bob") == 0
    assert not PortLease.objects.exists()


def test_it_does_not_take_a_job_for_stopped_that_a_worker_has_in_hand(dispatched: Execution, connection: Redis) -> None:
    run = dispatched.runs.get(party__name="alice")
    connection.lrem("rq:queue:alice", 1, run.job_id)  # taken, and its process still imports SecretFlow
    connection.hset(f"rq:job:{run.job_id}", "worker_name", "alice-1")
    dispatched.cancel()
    recovery = Recovery(connection)
    for _ in range(3):
        recovery.step()
    run.refresh_from_db()
    assert run.released_at is None
    assert connection.hexists(f"rq:job:{run.job_id}", STOP_MARK)
    assert dispatched.runs.get(party__name="bob").status == RunStatus.STOPPED
    assert status(dispatched) == Status.CANCELLING


def test_it_finds_the_lost_worker_behind_a_crash(dispatched: Execution, connection: Redis) -> None:
    runs = begin(dispatched, connection)
    connection.delete("rq:worker:bob-1")
    # alice's process crashes because its peer went away, and says so before anybody misses bob's worker
    crash = {"status": RunStatus.FAILURE, "error": "crashed (signal 11)", "error_type": "AlgorithmError"}
    now = timezone.now()
    PartyRun.objects.filter(pk=runs["alice"].pk).update(**crash, crashed=True, ended_at=now, released_at=now)
    settle(dispatched.pk)
    assert status(dispatched) == Status.RUNNING
    assert dispatched.error == "", "a better cause may yet come"
    settle_down(Recovery(connection), lambda: status(dispatched) == Status.RETRY)
    assert (dispatched.error_party, dispatched.error) == ("bob", "the worker of bob is gone, and its job with it")
    dispatched.cancel()
    assert (dispatched.error, dispatched.error_party) == ("", "")


def test_it_takes_back_a_job_whose_party_lost_its_last_worker(dispatched: Execution, connection: Redis) -> None:
    connection.delete("rq:worker:bob-1")
    recovery = Recovery(connection)
    settle_down(recovery, lambda: status(dispatched) == Status.RETRY)
    assert dispatched.error == "the worker of bob went away before it took the job"
    assert connection.llen("rq:queue:alice") == connection.llen("rq:queue:bob") == 0
    assert not PortLease.objects.exists()


def test_it_finds_a_worker_that_died_between_the_queue_and_its_name_on_the_job(
    dispatched: Execution, connection: Redis
) -> None:
    run = dispatched.runs.get(party__name="bob")
    connection.lrem("rq:queue:bob", 1, run.job_id)
    add_worker(connection, "bob", "2")  # another one is there
    settle_down(Recovery(connection), lambda: status(dispatched) == Status.RETRY)
    assert (dispatched.error, dispatched.error_party) == ("the worker of bob went away as it took the job", "bob")
    assert connection.hexists(f"rq:job:{run.job_id}", STOP_MARK), "it may yet wake up, and must not begin"


def test_it_gives_a_worker_that_has_the_job_in_hand_time_to_import(dispatched: Execution, connection: Redis) -> None:
    for run in dispatched.runs.select_related("party"):
        connection.lrem(f"rq:queue:{run.party.name}", 1, run.job_id)
        connection.hset(f"rq:job:{run.job_id}", "worker_name", f"{run.party.name}-1")
    PartyRun.objects.update(dispatched_at=timezone.now() - timedelta(minutes=1))
    recovery = Recovery(connection)
    recovery.step()
    recovery.step()
    assert status(dispatched) == Status.DISPATCHED
    PartyRun.objects.update(dispatched_at=timezone.now() - timedelta(minutes=3))
    recovery.step()
    dispatched.refresh_from_db()
    assert "began the job within 120 s" in dispatched.error


def test_it_gives_up_on_a_job_that_is_started_and_says_nothing(dispatched: Execution, connection: Redis) -> None:
    for run in dispatched.runs.select_related("party"):
        take(connection, run, f"{run.party.name}-1")
    PartyRun.objects.update(dispatched_at=timezone.now() - timedelta(minutes=3))
    Recovery(connection).step()
    dispatched.refresh_from_db()
    assert "said nothing of having begun" in dispatched.error


def test_it_cancels_past_a_queue_that_a_party_replaced(dispatched: Execution, connection: Redis) -> None:
    connection.delete("rq:queue:bob")
    connection.set("rq:queue:bob", "junk")
    dispatched.cancel()
    settle_down(Recovery(connection), lambda: status(dispatched) == Status.CANCELLED)


def test_it_survives_keys_of_the_wrong_kind(dispatched: Execution, connection: Redis) -> None:
    run = dispatched.runs.get(party__name="bob")
    for key in (f"rq:job:{run.job_id}", "rq:queue:bob"):
        connection.delete(key)
        connection.set(key, "junk")
    settle_down(Recovery(connection), lambda: status(dispatched) == Status.RETRY)
    assert dispatched.error_party == "bob"


def test_it_survives_whatever_a_party_writes_into_its_jobs(dispatched: Execution, connection: Redis) -> None:
    runs = begin(dispatched, connection)
    junk = {"worker_name": b"\xff", "exc_info": b"\xff", "timeout": "x", "created_at": "junk", "status": b"\xfe"}
    connection.hset(f"rq:job:{runs['bob'].job_id}", mapping=junk)
    dispatched.cancel()
    recovery = Recovery(connection)
    for _ in range(3):
        recovery.step()
    for run in runs.values():
        connection.delete(f"rq:job:{run.job_id}")
    settle_down(recovery, lambda: status(dispatched) == Status.CANCELLED)


def test_it_cancels_a_queued_execution_at_once(parties: dict[str, Party], connection: Redis) -> None:
    execution = submit()
    execution.cancel()
    assert status(execution) == Status.CANCELLED
    execution.cancel()
    assert [c.to_status for c in execution.changes.all()] == ["QUEUED", "CANCELLED"]


def test_it_cancels_a_running_execution_at_all_parties(dispatched: Execution, connection: Redis) -> None:
    runs = begin(dispatched, connection)
    dispatched.cancel()
    dispatched.cancel()
    assert status(dispatched) == Status.CANCELLING
    recovery = Recovery(connection)
    recovery.step()
    for run in runs.values():
        connection.hset(f"rq:job:{run.job_id}", "status", "stopped")
    settle_down(recovery, lambda: status(dispatched) == Status.CANCELLED)
    assert {r.status for r in dispatched.runs.all()} == {RunStatus.STOPPED}
    assert not PortLease.objects.exists()


def test_it_says_that_there_is_nothing_to_cancel_after_the_end(dispatched: Execution) -> None:
    finish(dispatched)
    with pytest.raises(NotCancellable, match="already ended with SUCCESS"):
        dispatched.cancel()


def test_it_changes_a_state_only_from_the_one_it_was_read_in(parties: dict[str, Party], connection: Redis) -> None:
    execution = submit()
    stale = Execution.objects.get(pk=execution.pk)
    assert transition(execution, Status.CANCELLED)
    assert not transition(stale, Status.FAILURE)
    with pytest.raises(ValueError, match="cannot go from CANCELLED"):
        transition(execution, Status.RUNNING)
    assert execution.changes.count() == 2
