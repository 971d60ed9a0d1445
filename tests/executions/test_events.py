"""From a party's publisher by Redis into the database."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError
from redis import Redis

from executions.coordinator import listener as listening
from executions.coordinator.listener import Listener
from executions.models import Execution, ExecutionEvent, PartyRun, PortLease
from executions.states import RunStatus, Status
from tests.keys import send_event
from tests.simulated import publish_success, publisher
from workers.contract.events import FAILURE, RUNNING, SUCCESS
from workers.contract.keys import stream_of


def fail_with_events(events: list[Any], pieces: list[Any]) -> None:
    if events:
        raise DatabaseError("the database is away")


def test_it_brings_an_execution_from_dispatched_to_success(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    listener = Listener(connection)
    publish_success(execution, "alice", connection, tmp_path)
    assert listener.step()
    execution.refresh_from_db()
    assert (execution.status, execution.progress) == (Status.RUNNING, 0.0)
    publish_success(execution, "bob", connection, tmp_path)
    listener.step()
    execution.refresh_from_db()
    assert execution.status == Status.SUCCESS
    assert execution.result == {"intersection_count": {"alice": 3, "bob": 3}}
    assert not PortLease.objects.exists()
    assert [c.to_status for c in execution.changes.all()] == ["QUEUED", "RUNNING", "SUCCESS"]
    run = execution.runs.get(party__name="bob")
    assert (run.status, run.worker, run.devices) == (RunStatus.SUCCESS, "bob-host-1", ["spu"])


def test_it_tells_the_warnings_of_every_party_once(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    for party, mine in (("alice", ["both", "alice's"]), ("bob", ["both", "bob's"])):
        events = publisher(execution, party, connection, tmp_path)
        events.publish(RUNNING, "task_started")
        events.publish(SUCCESS, "task_execution", result={"rows": 3, "warnings": mine})
    Listener(connection).step()
    execution.refresh_from_db()
    assert execution.result == {"rows": 3, "warnings": ["both", "alice's", "bob's"]}


def test_it_applies_a_repeated_event_once(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    publish_success(execution, "alice", connection, tmp_path)
    entries = connection.xrange(stream_of("alice"))
    listener = Listener(connection)
    listener.step()
    before = PartyRun.objects.values().get(party__name="alice")
    for _, fields in entries:
        connection.xadd(stream_of("alice"), fields)
    listener.step()
    assert ExecutionEvent.objects.count() == 5
    assert PartyRun.objects.values().get(party__name="alice") == before


def test_it_reaches_the_same_state_in_any_order_of_arrival(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    publish_success(execution, "alice", connection, tmp_path)
    publish_success(execution, "bob", connection, tmp_path)
    entries = [(s, f) for s in ("events:alice", "events:bob") for _, f in connection.xrange(s)]
    random.Random(7).shuffle(entries)
    connection.flushdb()
    listener = Listener(connection)
    for stream, fields in entries:
        connection.xadd(stream, fields)
        listener.step()
    execution.refresh_from_db()
    assert execution.status == Status.SUCCESS
    assert {(r.status, r.stage, r.progress) for r in execution.runs.all()} == {
        (RunStatus.SUCCESS, "task_execution", 1.0)
    }


def test_it_shows_the_newest_stage_when_an_older_event_comes_late(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    events = publisher(execution, "alice", connection, tmp_path)
    for stage in ("task_started", "sf_init", "sf_cluster_ready"):
        events.publish(RUNNING, stage)
    (_, first), (_, second), (_, third) = connection.xrange(stream_of("alice"))
    connection.flushdb()
    listener = Listener(connection)
    for fields, shown in ((first, "task_started"), (third, "sf_cluster_ready"), (second, "sf_cluster_ready")):
        connection.xadd(stream_of("alice"), fields)
        listener.step()
        assert execution.runs.get(party__name="alice").stage == shown


def test_it_applies_what_comes_in_the_same_moment_at_once(
    execution: Execution, connection: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Listener, "GATHER_MS", 30_000)
    batches: list[int] = []
    apply = listening.apply

    def count(events: list[Any], pieces: list[Any]) -> None:
        batches.append(len(events))
        apply(events, pieces)

    monkeypatch.setattr(listening, "apply", count)
    publish_success(execution, "alice", connection, tmp_path)
    entries = connection.xrange(stream_of("alice"))
    connection.flushdb()
    listener = Listener(connection)
    listener.step()  # makes its groups
    batches.clear()

    def send(some: Any) -> None:
        for _, fields in some:
            time.sleep(0.02)
            connection.xadd(stream_of("alice"), fields)

    began = time.monotonic()
    sender = threading.Thread(target=send, args=[entries])
    sender.start()
    listener.step(30_000)
    sender.join()
    assert batches == [len(entries)], "all of its progress, and the end, after which nothing is waited for"
    assert time.monotonic() - began < 20
    run = execution.runs.get(party__name="alice")
    assert (run.status, run.released_at is None) == (RunStatus.SUCCESS, False)

    monkeypatch.setattr(Listener, "GATHER_MS", 1)
    publisher(execution, "bob", connection, tmp_path).publish(RUNNING, "task_started")
    listener.step(30_000)
    assert execution.runs.get(party__name="bob").stage == "task_started", "it waits no longer than that for more"


def test_it_applies_what_was_read_but_not_applied_before_a_crash(
    execution: Execution, connection: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_success(execution, "alice", connection, tmp_path)
    listener = Listener(connection)

    with monkeypatch.context() as patch:
        patch.setattr(listening, "apply", fail_with_events)
        with pytest.raises(DatabaseError):
            listener.step()
    assert not ExecutionEvent.objects.exists()
    # the same process goes on
    listener.step()
    assert ExecutionEvent.objects.count() == 5


def test_it_takes_over_what_a_dead_listener_left(
    execution: Execution, connection: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_success(execution, "alice", connection, tmp_path)
    dead = Listener(connection)
    with monkeypatch.context() as patch:
        patch.setattr(listening, "apply", fail_with_events)
        with pytest.raises(DatabaseError):
            dead.step()
    monkeypatch.setattr(Listener, "CLAIM_AFTER_MS", 0)
    Listener(connection).step()
    assert ExecutionEvent.objects.count() == 5
    assert connection.xlen(stream_of("alice")) == 0


def test_it_goes_on_after_redis_came_back_empty(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    listener = Listener(connection)
    publish_success(execution, "alice", connection, tmp_path)
    listener.step()
    connection.flushdb()
    listener.step()
    publish_success(execution, "bob", connection, tmp_path)
    listener.step()
    execution.refresh_from_db()
    assert execution.status == Status.SUCCESS


def test_it_notes_that_a_process_crashed(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    events = publisher(execution, "alice", connection, tmp_path)
    events.publish(RUNNING, "task_started")
    events.publish(FAILURE, "cleanup", error="crashed", error_type="AlgorithmError", crashed=True)
    Listener(connection).step()
    assert execution.runs.get(party__name="alice").crashed
    assert not execution.runs.get(party__name="bob").crashed


def test_it_stops_the_others_and_shows_the_first_real_cause(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    listener = Listener(connection)
    # the echo arrives first
    echo = publisher(execution, "alice", connection, tmp_path)
    echo.publish(RUNNING, "sf_init")
    echo.publish(FAILURE, "sf_init", error="the link broke", error_type="NetworkError")
    listener.step()
    execution.refresh_from_db()
    assert (execution.status, execution.error) == (Status.RUNNING, ""), "a better cause may yet come"
    bob = execution.runs.get(party__name="bob")
    assert bob.stop_requested_at
    cause = publisher(execution, "bob", connection, tmp_path)
    cause.publish(FAILURE, "task_started", error="no column 'uidd'", error_type="ConfigError")
    listener.step()
    execution.refresh_from_db()
    assert execution.status == Status.FAILURE
    assert (execution.error_party, execution.error_type, execution.error_stage, execution.error) == (
        "bob",
        "ConfigError",
        "task_started",
        "no column 'uidd'",
    )


@pytest.mark.parametrize(
    ("error_type", "expected", "retries"),
    [
        ("NetworkError", Status.RETRY, {"NetworkError": 1}),
        ("ResourceError", Status.RETRY, {"ResourceError": 1}),
        ("ConfigError", Status.FAILURE, {}),
        ("AlgorithmError", Status.FAILURE, {}),
        ("NoSuchClass", Status.FAILURE, {}),
    ],
)
def test_it_retries_by_the_contracts_table(
    execution: Execution, connection: Redis, tmp_path: Path, error_type: str, expected: Status, retries: dict[str, int]
) -> None:
    for party in ("alice", "bob"):
        publisher(execution, party, connection, tmp_path).publish(
            FAILURE, "task_execution", error="it broke", error_type=error_type
        )
    Listener(connection).step()
    execution.refresh_from_db()
    assert (execution.status, execution.retries) == (expected, retries)
    assert (execution.due_at is not None) == (expected == Status.RETRY)


@pytest.mark.parametrize("most", [3, 1, 0])
def test_it_gives_up_after_the_last_retry(execution: Execution, connection: Redis, tmp_path: Path, most: int) -> None:
    Execution.objects.filter(pk=execution.pk).update(retries={"NetworkError": most}, network_retries=most)
    for party in ("alice", "bob"):
        publisher(execution, party, connection, tmp_path).publish(
            FAILURE, "sf_init", error="the link broke", error_type="NetworkError"
        )
    Listener(connection).step()
    execution.refresh_from_db()
    assert (execution.status, execution.error) == (Status.FAILURE, "the link broke")


def test_it_never_goes_backwards(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    listener = Listener(connection)
    for party in ("alice", "bob"):
        publish_success(execution, party, connection, tmp_path)
    listener.step()
    late = publisher(execution, "alice", connection, tmp_path, first_sequence=50)
    late.publish(RUNNING, "sf_init")
    late.publish(FAILURE, "task_execution", error="late", error_type="AlgorithmError")
    listener.step()
    execution.refresh_from_db()
    run = execution.runs.get(party__name="alice")
    assert (execution.status, execution.error, run.status, run.stage) == (
        Status.SUCCESS, "", RunStatus.SUCCESS, "task_execution",
    )  # fmt: skip


GOOD: dict[str, Any] = {
    "status": "RUNNING", "timestamp": "2026-01-04T00:38:00.000Z", "data": {"stage": "sf_init"},
    "party": "alice", "attempt": 1, "sequence": 1,
}  # fmt: skip
BAD_CHANGES: list[dict[str, Any]] = [
    {"party": "bob"},
    {"attempt": 2},
    {"attempt": "one"},
    {"sequence": 0},
    {"sequence": 2**40},
    {"status": "DONE"},
    {"timestamp": "yesterday"},
    {"timestamp": "2026-01-04T00:38:00"},
    {"data": [1]},
    {"task_request_id": "9e6f1ad0-5a0e-4b4c-a8a5-53a3ab9d23ee"},
    {"task_request_id": "../../x"},
]


@pytest.mark.parametrize("change", BAD_CHANGES)
def test_it_drops_an_event_that_a_party_may_not_send(
    execution: Execution, connection: Redis, change: dict[str, Any]
) -> None:
    event = GOOD | {"task_request_id": str(execution.pk)} | change
    send_event(connection, "alice", json.dumps(event))
    send_event(connection, "alice", json.dumps(GOOD | {"task_request_id": str(execution.pk)}))
    Listener(connection).step()
    assert ExecutionEvent.objects.count() == 1
    assert connection.xlen(stream_of("alice")) == 0


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 5000, b'{"event": 1}', b"x" * 100_000],
)
def test_it_drops_what_is_no_event(execution: Execution, connection: Redis, raw: bytes) -> None:
    send_event(connection, "alice", raw)
    connection.xadd(stream_of("alice"), {"other": raw})
    Listener(connection).step()
    assert not ExecutionEvent.objects.exists()
    assert connection.xlen(stream_of("alice")) == 0


def test_it_takes_hostile_values_without_harm(execution: Execution, connection: Redis) -> None:
    hostile = {
        "stage": "x\0" * 500,
        "computation_progress": float("nan"),
        "devices_initialized": [{"a": ["b\0"]}] * 50,
        "error": {"a": 1},
        "error_type": "__import__",
        "result": {"outputs": {"../x": {"columns": {"a": "int"}}}},
    }
    for sequence, status in enumerate(("RUNNING", "SUCCESS"), 1):
        event = GOOD | {"task_request_id": str(execution.pk), "status": status, "sequence": sequence, "data": hostile}
        send_event(connection, "alice", json.dumps(event))
    Listener(connection).step()
    run = execution.runs.get(party__name="alice")
    assert run.status == RunStatus.SUCCESS
    assert run.progress == 0.0
    assert len(run.stage) <= 32


def test_it_registers_outputs_and_leaves_the_operators_datasets_alone(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    from controlplane.models import Dataset

    mine = Dataset.objects.create(
        party_id=execution.runs.get(party__name="bob").party_id, name="common", columns={"a": "int"}
    )
    for party in ("alice", "bob"):
        publisher(execution, party, connection, tmp_path).publish(
            SUCCESS,
            "task_execution",
            result={
                "outputs": {
                    "common": {"columns": {"uid": "str"}, "alignment": "of-this-run-1"},
                    "other": {"columns": {"uid": "str"}},
                }
            },
        )
    Listener(connection).step()
    execution.refresh_from_db()
    assert execution.result["outputs"] == {"alice": ["common"], "bob": ["common"]}
    made = Dataset.objects.get(party__name="alice", name="common")
    assert (made.columns, made.produced_by) == ({"uid": "str"}, execution.pk)
    assert made.alignment == "of-this-run-1"
    mine.refresh_from_db()
    assert (mine.columns, mine.produced_by) == ({"a": "int"}, None)
    assert not Dataset.objects.filter(name="other").exists()


def test_it_applies_a_batch_in_a_constant_number_of_queries(
    execution: Execution, connection: Redis, tmp_path: Path, django_assert_max_num_queries: Any
) -> None:
    listener = Listener(connection)
    listener.step()
    events = publisher(execution, "alice", connection, tmp_path)
    for stage in itertools.islice(itertools.cycle(["sf_init", "spu_init"]), Listener.BATCH):
        events.publish(RUNNING, stage)
    with django_assert_max_num_queries(20):
        listener.step()
    assert ExecutionEvent.objects.count() == Listener.BATCH


def test_it_listens_past_a_stream_that_a_party_replaced(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    listener = Listener(connection)
    for again in range(2):  # before its first look, and after
        connection.delete(stream_of("bob"))
        connection.set(stream_of("bob"), "junk")
        publisher(execution, "alice", connection, tmp_path, first_sequence=10 * again + 1).publish(RUNNING, "sf_init")
        for _ in range(3):
            listener.step()
        assert execution.events.count() == again + 1
