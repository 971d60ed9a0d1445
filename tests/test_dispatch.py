"""Gang dispatch, stopping, loss and retries, against a real Valkey; the parties' workers are only their keys there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.utils import timezone
from redis import Redis
from rq.serializers import JSONSerializer

from controlplane.models import Party
from executions.dispatch import Dispatcher, complete, live_workers
from executions.models import Execution, NotCancellable, PartyRun, PortLease
from executions.recovery import Recovery
from executions.settle import settle
from executions.states import RunStatus, Status, transition
from tests.composed import documents, make_parties
from workers.jobs import STOP_MARK, PartyJob


@pytest.fixture
def parties(db: None) -> dict[str, Party]:
    return make_parties()


def add_worker(connection: Redis, party: str, name: str = "1") -> str:
    """What a live worker leaves in Redis."""
    key = f"rq:worker:{party}-{name}"
    connection.hset(key, mapping={"queues": party, "state": "idle"})
    connection.expire(key, 60)
    connection.sadd(f"rq:workers:{party}", key)
    return key


def take(connection: Redis, run: PartyRun, worker: str) -> None:
    """What a worker's taking of a job leaves in Redis."""
    connection.lrem(f"rq:queue:{run.party.name}", 1, run.job_id)
    connection.hset(f"rq:job:{run.job_id}", mapping={"status": "started", "worker_name": worker})


def job_of(connection: Redis, run: PartyRun) -> PartyJob:
    return PartyJob.fetch(run.job_id, connection=connection, serializer=JSONSerializer)


def submit(**options: Any) -> Execution:
    return Execution.objects.submit(documents(), options=options)


def status(execution: Execution) -> str:
    execution.refresh_from_db()
    return execution.status


def finish(execution: Execution, result: RunStatus = RunStatus.SUCCESS) -> None:
    """All parties of the current attempt ended and let go."""
    now = timezone.now()
    runs = execution.runs.filter(released_at=None)
    runs.update(status=result, ended_at=now, released_at=now, started_at=now)
    PortLease.objects.filter(run__execution=execution).delete()
    settle(execution.pk)


def test_it_enqueues_one_job_per_party_with_leased_ports(parties: dict[str, Party], connection: Redis) -> None:
    for party in parties:
        add_worker(connection, party)
    execution = submit()
    assert Dispatcher(connection).step()
    execution.refresh_from_db()
    assert (execution.status, execution.attempt) == (Status.DISPATCHED, 1)
    for run in execution.runs.select_related("party"):
        assert connection.lrange(f"rq:queue:{run.party.name}", 0, -1) == [run.job_id.encode()]
        assert run.job_id == f"{run.party.name}-{execution.pk}-1"
        job = job_of(connection, run)
        assert job.func_name == "workers.pipeline.execute_secretflow_task"
        cluster = job.kwargs["sf_init_config"]
        assert cluster["self_party"] == run.party.name
        assert cluster["job_name"] == f"{execution.pk}-1"
        assert cluster["cluster"][run.party.name] == {"address": f"127.0.0.1:{run.ports[0]}"}
        assert {n["party"]: n["address"] for n in job.kwargs["spu_config"]["nodes"]}[
            run.party.name
        ] == f"127.0.0.1:{run.ports[1]}"
        assert all(run.party.port_first <= port <= run.party.port_last for port in run.ports)
        json.loads(connection.hget(f"rq:job:{run.job_id}", "data") and job.serializer.dumps(job.kwargs))
    assert PortLease.objects.count() == 4


def test_it_sends_every_party_the_same_documents_but_for_its_own_name(parties: dict[str, Party]) -> None:
    endpoints = {"alice": ["a:1", "a:2"], "bob": ["b:3", "b:4"]}
    sent = {p: complete(documents(), p, "j-1", endpoints) for p in parties}
    for found in sent.values():
        del found["sf_init_config"]["self_party"]
    assert sent["alice"] == sent["bob"]


def test_it_claims_all_parties_or_none(parties: dict[str, Party], connection: Redis) -> None:
    add_worker(connection, "alice")
    execution = submit()
    assert not Dispatcher(connection).step()
    execution.refresh_from_db()
    assert execution.status == Status.QUEUED
    assert execution.waiting_for == "bob has no live worker; start `manage.py rqworker bob` on bob's host"
    assert not PortLease.objects.exists()
    assert connection.llen("rq:queue:alice") == 0


def test_it_says_when_no_coordinator_looks_at_it(parties: dict[str, Party], connection: Redis) -> None:
    execution = submit()
    assert execution.waiting_reason == ""
    execution.queued_at -= timedelta(seconds=10)
    assert "is `manage.py coordinate` running?" in execution.waiting_reason
    execution.status = Status.SUCCESS
    assert execution.waiting_reason == ""


def test_it_fails_an_execution_whose_party_stays_without_a_worker(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from executions import dispatch

    execution = submit()
    dispatcher = Dispatcher(connection)
    dispatcher.step()
    assert status(execution) == Status.QUEUED
    monkeypatch.setattr(dispatch.environment, "worker_grace_seconds", 0)
    dispatcher.step()
    execution.refresh_from_db()
    assert (execution.status, execution.error_type, execution.error_party, execution.error_stage) == (
        Status.FAILURE,
        "ResourceError",
        "alice",
        "dispatch",
    )
    assert "alice, bob have no live worker" in execution.error


def test_it_fails_an_execution_that_waited_longer_than_its_limit(parties: dict[str, Party], connection: Redis) -> None:
    for party in parties:
        add_worker(connection, party)
    first, second = submit(), submit(dispatch_limit_seconds=60)
    dispatcher = Dispatcher(connection)
    dispatcher.step()
    assert (status(first), status(second)) == (Status.DISPATCHED, Status.QUEUED)
    Execution.objects.filter(pk=second.pk).update(queued_at=timezone.now() - timedelta(seconds=61))
    dispatcher.step()
    assert status(second) == Status.FAILURE
    assert second.error == "was not dispatched within 60 s: all workers of alice, bob are busy"


def test_it_goes_by_priority_then_age_and_never_above_the_slots(parties: dict[str, Party], connection: Redis) -> None:
    for party in parties:
        add_worker(connection, party)
    old, new, urgent = submit(), submit(), submit(priority=5)
    dispatcher = Dispatcher(connection)
    for expected in (urgent, old, new):
        assert dispatcher.step()
        assert not dispatcher.step()
        assert status(expected) == Status.DISPATCHED
        assert PartyRun.objects.filter(released_at=None).count() == 2
        finish(expected)
    assert Execution.objects.filter(status=Status.SUCCESS).count() == 3


def test_it_uses_several_workers_of_a_party(parties: dict[str, Party], connection: Redis) -> None:
    for party in parties:
        add_worker(connection, party, "1")
        add_worker(connection, party, "2")
    executions = [submit() for _ in range(3)]
    Dispatcher(connection).step()
    assert [status(e) for e in executions] == [Status.DISPATCHED, Status.DISPATCHED, Status.QUEUED]
    assert executions[2].waiting_for == "all workers of alice, bob are busy"
    ports = list(PortLease.objects.values_list("party", "port"))
    assert len(set(ports)) == len(ports) == 8


def test_it_says_when_all_ports_are_leased(parties: dict[str, Party], connection: Redis) -> None:
    Party.objects.filter(name="bob").update(port_last=parties["bob"].port_first + 2)
    for party in parties:
        add_worker(connection, party, "1")
        add_worker(connection, party, "2")
    first, second = submit(), submit()
    Dispatcher(connection).step()
    assert (status(first), status(second)) == (Status.DISPATCHED, Status.QUEUED)
    assert second.waiting_for.startswith("all ports of bob")


def test_it_lets_what_fits_go_past_what_does_not_but_not_for_ever(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    Party.objects.create(name="carol", address="127.0.0.1", port_first=30000, port_last=30099)
    for party in ("alice", "bob", "carol"):
        add_worker(connection, party)

    def between(*names: str) -> Execution:
        execution = submit()
        Execution.objects.filter(pk=execution.pk).update(parties=list(names))
        execution.refresh_from_db()
        return execution

    busy = between("alice", "bob")
    dispatcher = Dispatcher(connection)
    dispatcher.step()
    assert status(busy) == Status.DISPATCHED
    blocked, small = between("bob", "carol"), between("carol")
    dispatcher.step()
    assert (status(blocked), status(small)) == (Status.QUEUED, Status.DISPATCHED)
    finish(small)
    later = between("carol")
    Execution.objects.filter(pk=blocked.pk).update(queued_at=timezone.now() - timedelta(minutes=1))
    dispatcher.step()
    assert (status(blocked), status(later)) == (Status.QUEUED, Status.QUEUED), "carol is held for the one that waited"
    finish(busy)
    dispatcher.step()
    assert (status(blocked), status(later)) == (Status.DISPATCHED, Status.QUEUED)


def test_it_repairs_a_crash_between_commit_and_enqueue(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for party in parties:
        add_worker(connection, party)
    submit()
    dispatcher = Dispatcher(connection)
    with monkeypatch.context() as patch:
        patch.setattr(Dispatcher, "_enqueue", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            dispatcher.step()
    assert connection.llen("rq:queue:alice") == 0
    Dispatcher(connection).step()
    assert connection.llen("rq:queue:alice") == connection.llen("rq:queue:bob") == 1
    # and one between the enqueuing and the note of it
    PartyRun.objects.update(enqueued_at=None)
    Dispatcher(connection).step()
    assert connection.llen("rq:queue:alice") == connection.llen("rq:queue:bob") == 1


@pytest.mark.django_db(transaction=True)
def test_it_never_dispatches_twice_with_two_coordinators_at_once(connection: Redis) -> None:
    for party in make_parties():
        for worker in range(3):
            add_worker(connection, party, str(worker))
    executions = [submit() for _ in range(6)]
    errors: list[BaseException] = []

    def coordinate() -> None:
        try:
            for _ in range(3):
                Dispatcher(connection).step()
        except BaseException as error:
            errors.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=coordinate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sorted(status(e) for e in executions) == [Status.DISPATCHED] * 3 + [Status.QUEUED] * 3
    assert PartyRun.objects.count() == 6
    assert connection.llen("rq:queue:alice") == connection.llen("rq:queue:bob") == 3
    assert PortLease.objects.count() == 12


@pytest.fixture
def dispatched(parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch) -> Execution:
    monkeypatch.setattr(Recovery, "GRACE_SECONDS", 0)
    for party in parties:
        add_worker(connection, party)
    execution = submit()
    Dispatcher(connection).step()
    execution.refresh_from_db()
    return execution


def begin(execution: Execution, connection: Redis) -> dict[str, PartyRun]:
    """Both parties have begun."""
    runs = {r.party.name: r for r in execution.runs.select_related("party")}
    for name, run in runs.items():
        take(connection, run, f"{name}-1")
    execution.runs.update(status=RunStatus.RUNNING, started_at=timezone.now(), stage="sf_init")
    settle(execution.pk)
    assert status(execution) == Status.RUNNING
    return runs


def settle_down(recovery: Recovery, condition: Callable[[], bool]) -> None:
    import time

    for _ in range(40):
        recovery.step()
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("did not get there in 40 steps")


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
    Dispatcher(connection).step()
    assert (status(dispatched), dispatched.attempt) == (Status.DISPATCHED, 2)
    assert [c.to_status for c in dispatched.changes.all()] == [
        "QUEUED", "DISPATCHED", "RUNNING", "RETRY", "QUEUED", "DISPATCHED",
    ]  # fmt: skip


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


def test_it_takes_back_a_job_whose_party_lost_its_last_worker(dispatched: Execution, connection: Redis) -> None:
    connection.delete("rq:worker:bob-1")
    recovery = Recovery(connection)
    settle_down(recovery, lambda: status(dispatched) == Status.RETRY)
    assert dispatched.error == "the worker of bob went away before it began the job"
    assert connection.llen("rq:queue:alice") == connection.llen("rq:queue:bob") == 0
    assert not PortLease.objects.exists()


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


def test_it_counts_only_workers_that_are_alive(connection: Redis) -> None:
    add_worker(connection, "alice", "1")
    gone = add_worker(connection, "alice", "2")
    connection.delete(gone)
    assert live_workers(connection, {"alice", "bob"}) == {"alice": 1, "bob": 0}
