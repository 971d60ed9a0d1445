"""Gang dispatch, against a real Valkey; the parties' workers are only their keys there."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
from django.db import connection as database
from django.utils import timezone
from redis import Redis

from controlplane.environment import environment
from controlplane.models import Party
from executions.coordinator.capacity import Capacity, find_capacity
from executions.coordinator.completion import complete
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.enqueue import Enqueuer
from executions.models import Execution, PartyRun, PortLease
from executions.states import Status
from tests.composed import documents, make_parties
from tests.keys import voice
from tests.simulated import add_worker, dispatch, finish, job_of, status, submit


def test_it_enqueues_one_job_per_party_with_leased_ports(parties: dict[str, Party], connection: Redis) -> None:
    for party in parties:
        add_worker(connection, party)
    execution = submit()
    assert dispatch(Dispatcher(connection))
    execution.refresh_from_db()
    assert (execution.status, execution.attempt) == (Status.DISPATCHED, 1)
    for run in execution.runs.select_related("party"):
        assert connection.lrange(f"rq:queue:{run.party.name}", 0, -1) == [run.job_id.encode()]
        assert run.job_id == f"{run.party.name}-{execution.pk}-1"
        job = job_of(connection, run)
        assert job.func_name == "workers.runtime.task_run.execute_secretflow_task"
        name = job.kwargs["task_config"]["data_sources"][run.party.name]
        registered = run.party.datasets.get(name=name).columns
        assert job.kwargs["task_config"]["column_types"] == {name: registered}, "its own tables' alone"
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


def test_it_sends_every_party_the_same_documents_but_for_its_own_name_and_types(parties: dict[str, Party]) -> None:
    endpoints = {"alice": ["a:1", "a:2"], "bob": ["b:3", "b:4"]}
    sent = {p: complete(documents(), p, "j-1", endpoints, {"alice": {"customers": {"a": "str"}}}) for p in parties}
    for found in sent.values():
        del found["sf_init_config"]["self_party"]
    assert sent["alice"]["task_config"].pop("column_types") == {"customers": {"a": "str"}}
    assert sent["alice"] == sent["bob"]


def test_it_claims_all_parties_or_none(parties: dict[str, Party], connection: Redis) -> None:
    add_worker(connection, "alice")
    execution = submit()
    assert not dispatch(Dispatcher(connection))
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
    execution = submit()
    dispatcher = Dispatcher(connection)
    dispatch(dispatcher)
    assert status(execution) == Status.QUEUED
    monkeypatch.setattr(environment, "worker_grace_seconds", 0)
    dispatch(dispatcher)
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
    dispatch(dispatcher)
    assert (status(first), status(second)) == (Status.DISPATCHED, Status.QUEUED)
    Execution.objects.filter(pk=second.pk).update(queued_at=timezone.now() - timedelta(seconds=61))
    dispatch(dispatcher)
    assert status(second) == Status.FAILURE
    assert second.error == "was not dispatched within 60 s: all workers of alice, bob are busy"


def test_it_lets_nothing_wait_for_ever_behind_what_is_more_urgent(parties: dict[str, Party], connection: Redis) -> None:
    for party in parties:
        add_worker(connection, party)
    old, urgent = submit(), submit(priority=5)
    Execution.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(minutes=6))
    dispatch(Dispatcher(connection))
    assert (status(old), status(urgent)) == (Status.DISPATCHED, Status.QUEUED)


def test_it_holds_parties_for_the_first_alone_of_those_who_share_one(
    parties: dict[str, Party], connection: Redis
) -> None:
    for name in ("carol", "dave"):
        Party.objects.create(
            name=name, address="127.0.0.1", port_first=30000, port_last=30099, signing_keys=voice(name).public_key
        )
    for party in ("alice", "carol", "dave"):
        add_worker(connection, party)
    waiting = [submit() for _ in range(3)]
    for execution, names in zip(waiting, (["alice", "bob"], ["alice", "carol"], ["carol", "dave"]), strict=True):
        Execution.objects.filter(pk=execution.pk).update(parties=names, queued_at=timezone.now() - timedelta(minutes=1))
    Execution.objects.filter(pk=waiting[2].pk).update(
        documents=documents() | {"sf_init_config": {"parties": ["carol", "dave"]}}
    )
    dispatch(Dispatcher(connection))
    assert [status(e) for e in waiting] == [Status.QUEUED, Status.QUEUED, Status.DISPATCHED]


def test_it_goes_by_priority_then_age_and_never_above_the_slots(parties: dict[str, Party], connection: Redis) -> None:
    for party in parties:
        add_worker(connection, party)
    old, new, urgent = submit(), submit(), submit(priority=5)
    dispatcher = Dispatcher(connection)
    for expected in (urgent, old, new):
        assert dispatch(dispatcher)
        assert not dispatch(dispatcher)
        assert status(expected) == Status.DISPATCHED
        assert PartyRun.objects.filter(released_at=None).count() == 2
        finish(expected)
    assert Execution.objects.filter(status=Status.SUCCESS).count() == 3


def test_it_uses_several_workers_of_a_party(parties: dict[str, Party], connection: Redis) -> None:
    for party in parties:
        add_worker(connection, party, "1")
        add_worker(connection, party, "2")
    executions = [submit() for _ in range(3)]
    dispatch(Dispatcher(connection))
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
    dispatch(Dispatcher(connection))
    assert (status(first), status(second)) == (Status.DISPATCHED, Status.QUEUED)
    assert second.waiting_for.startswith("all ports of bob")


def test_it_lets_what_fits_go_past_what_does_not_but_not_for_ever(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    Party.objects.create(
        name="carol", address="127.0.0.1", port_first=30000, port_last=30099, signing_keys=voice("carol").public_key
    )
    for party in ("alice", "bob", "carol"):
        add_worker(connection, party)

    def between(*names: str) -> Execution:
        execution = submit()
        execution.documents["sf_init_config"]["parties"] = execution.parties = list(names)
        execution.save()
        return execution

    busy = between("alice", "bob")
    dispatcher = Dispatcher(connection)
    dispatch(dispatcher)
    assert status(busy) == Status.DISPATCHED
    blocked, small = between("bob", "carol"), between("carol")
    dispatch(dispatcher)
    assert (status(blocked), status(small)) == (Status.QUEUED, Status.DISPATCHED)
    finish(small)
    later = between("carol")
    Execution.objects.filter(pk=blocked.pk).update(queued_at=timezone.now() - timedelta(minutes=1))
    dispatch(dispatcher)
    assert (status(blocked), status(later)) == (Status.QUEUED, Status.QUEUED), "carol is held for the one that waited"
    finish(busy)
    dispatch(dispatcher)
    assert (status(blocked), status(later)) == (Status.DISPATCHED, Status.QUEUED)


def test_it_repairs_a_crash_between_commit_and_enqueue(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for party in parties:
        add_worker(connection, party)
    submit()
    dispatcher = Dispatcher(connection)
    with monkeypatch.context() as patch:
        patch.setattr(Enqueuer, "put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            dispatch(dispatcher)
    assert connection.llen("rq:queue:alice") == 0
    dispatch(Dispatcher(connection))
    assert connection.llen("rq:queue:alice") == connection.llen("rq:queue:bob") == 1
    # and one between the enqueuing and the note of it
    PartyRun.objects.update(enqueued_at=None)
    dispatch(Dispatcher(connection))
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
                dispatch(Dispatcher(connection))
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


def test_it_waits_for_a_process_that_can_begin_at_once_and_says_so(
    parties: dict[str, Party], connection: Redis
) -> None:
    add_worker(connection, "alice")
    key = add_worker(connection, "bob", waiting="starting")
    execution = submit()
    dispatch(Dispatcher(connection))
    assert status(execution) == Status.QUEUED
    assert execution.waiting_for == "the next process of bob is still importing SecretFlow"
    connection.hset(key, "process", "ready")
    dispatch(Dispatcher(connection))
    assert status(execution) == Status.DISPATCHED


def test_it_says_for_whom_a_party_is_kept(parties: dict[str, Party], connection: Redis) -> None:
    add_worker(connection, "bob")
    first, second = submit(), submit()
    Execution.objects.filter(pk=first.pk).update(queued_at=timezone.now() - timedelta(minutes=1))
    Execution.objects.filter(pk=second.pk).update(parties=["bob"])
    dispatch(Dispatcher(connection))
    assert status(second) == Status.QUEUED
    assert second.waiting_for == "bob is kept for an execution that has waited longer"


def test_it_lets_a_retry_keep_its_place(parties: dict[str, Party], connection: Redis) -> None:
    first, second = submit(), submit()
    Execution.objects.filter(pk=first.pk).update(queued_at=timezone.now())
    for party in parties:
        add_worker(connection, party)
    dispatch(Dispatcher(connection))
    assert (status(first), status(second)) == (Status.DISPATCHED, Status.QUEUED)


def test_it_counts_only_workers_that_are_alive(parties: dict[str, Party], connection: Redis) -> None:
    add_worker(connection, "alice", "1")
    connection.delete(add_worker(connection, "alice", "2"))
    connection.persist(add_worker(connection, "alice", "3"))  # as RQ leaves it when it writes to an expired key
    add_worker(connection, "alice", "4", waiting="starting")
    Party.objects.filter(name="bob").update(name="robert")
    assert find_capacity(connection, {"alice", "bob"}) == {
        "alice": Capacity(alive=2, ready=1, busy=0, registered=True),
        "bob": Capacity(),
    }


def test_it_is_not_stopped_by_keys_of_the_wrong_kind(parties: dict[str, Party], connection: Redis) -> None:
    add_worker(connection, "alice")
    connection.set("rq:workers:bob", "junk")
    connection.sadd("rq:workers:alice", "junk")
    connection.set("junk", "junk", ex=60)
    execution = submit()
    dispatch(Dispatcher(connection))
    assert status(execution) == Status.QUEUED
    assert "bob has no live worker" in execution.waiting_for


def test_it_dispatches_past_a_queue_that_a_party_replaced(parties: dict[str, Party], connection: Redis) -> None:
    for party in parties:
        add_worker(connection, party)
    connection.set("rq:queue:bob", "junk")
    execution = submit()
    dispatch(Dispatcher(connection))
    assert status(execution) == Status.DISPATCHED
    assert connection.llen("rq:queue:alice") == connection.llen("rq:queue:bob") == 1
