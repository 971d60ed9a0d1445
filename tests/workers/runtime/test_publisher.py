"""A party's events on their way: published, kept on its disk, delivered again where Redis did not keep them."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from executions.coordinator.listener import Listener
from executions.models import Execution
from executions.states import Status
from tests.keys import stream
from tests.simulated import down, publish_success, publisher
from workers.contract.events import FAILURE, RUNNING, SUCCESS
from workers.contract.keys import stream_of
from workers.contract.run_name import RunName
from workers.host.stream import Stream
from workers.runtime.journal import Journal
from workers.runtime.publisher import Publisher


def test_it_writes_events_in_the_contracts_format(connection: Redis, tmp_path: Path) -> None:
    events = Publisher(
        stream(connection, "alice"),
        run=RunName("0b5e", 2),
        worker="w",
        task_type="psi",
        journal_dir=tmp_path,
    )
    events.publish(RUNNING, "sf_cluster_ready", parties_connected=["alice", "bob"], error=None)
    [(_, fields)] = connection.xrange(stream_of("alice"))
    event = json.loads(fields[b"event"])
    assert event.pop("timestamp").endswith("Z")
    assert event["data"].pop("execution_time") >= 0
    assert event == {
        "task_request_id": "0b5e",
        "status": "RUNNING",
        "data": {"stage": "sf_cluster_ready", "parties_connected": ["alice", "bob"]},
        "worker_container": "w",
        "task_name": "secretflow.execute_psi_task",
        "party": "alice",
        "attempt": 2,
        "sequence": 1,
    }


def test_it_coalesces_progress_and_keeps_the_newest(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    events = publisher(execution, "alice", connection, tmp_path)
    events.publish(RUNNING, "task_execution")
    for step in range(101):
        events.progress(step / 100)
    events.publish(SUCCESS, "task_execution")
    sent = [json.loads(f[b"event"]) for _, f in connection.xrange(stream_of("alice"))]
    assert [e["data"].get("computation_progress") for e in sent] == [None, 0.0, 1.0, None]
    assert [e["sequence"] for e in sent] == [1, 2, 3, 4]


def test_it_keeps_events_on_disk_while_redis_is_away_and_delivers_them_in_order(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    publish_success(execution, "alice", down(), tmp_path)
    assert connection.xlen(stream_of("alice")) == 0
    spool = Journal(tmp_path)
    assert spool.deliver(stream(connection, "alice")) == 5
    assert spool.deliver(stream(connection, "alice")) == 0
    sent = [json.loads(f[b"event"])["sequence"] for _, f in connection.xrange(stream_of("alice"))]
    assert sent == [1, 2, 3, 4, 5]


def test_it_keeps_the_order_when_redis_comes_back_in_between(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    events = publisher(execution, "alice", down(), tmp_path)
    events.publish(RUNNING, "task_started")
    events._stream = stream(connection, "alice")
    events.publish(RUNNING, "sf_init")
    # the worker process, which reports the end of a killed job
    publisher(execution, "alice", connection, tmp_path, first_sequence=1000).publish(FAILURE, "cleanup")
    assert connection.xlen(stream_of("alice")) == 0
    Journal(tmp_path).deliver(stream(connection, "alice"))
    sent = [json.loads(f[b"event"])["sequence"] for _, f in connection.xrange(stream_of("alice"))]
    assert sent == [1, 2, 1000]


def test_it_keeps_the_spool_while_delivery_fails(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    publish_success(execution, "alice", down(), tmp_path)
    with pytest.raises(RedisError):
        Journal(tmp_path).deliver(stream(down(), "alice"))
    assert Journal(tmp_path).deliver(stream(connection, "alice")) == 5


def test_it_delivers_again_what_redis_lost(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    for party in ("alice", "bob"):
        (tmp_path / party).mkdir()
        publish_success(execution, party, connection, tmp_path / party)
    connection.flushdb()
    for party in ("alice", "bob"):
        journal = Journal(tmp_path / party)
        assert journal.deliver(stream(connection, party)) == 0, "none of it is late"
        assert journal.deliver(stream(connection, party), everything=True) == 5
    Listener(connection).step()
    execution.refresh_from_db()
    assert execution.status == Status.SUCCESS
    assert execution.events.count() == 10


def test_it_delivers_only_what_is_late(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    events = publisher(execution, "alice", connection, tmp_path)
    events.publish(RUNNING, "task_started")
    events._stream = stream(down(), "alice")
    events.publish(RUNNING, "sf_init")
    events.publish(RUNNING, "sf_cluster_ready")
    assert connection.xlen(stream_of("alice")) == 1
    assert Journal(tmp_path).deliver(stream(connection, "alice")) == 2
    sent = [json.loads(f[b"event"])["sequence"] for _, f in connection.xrange(stream_of("alice"))]
    assert sent == [1, 2, 3]


def test_it_delivers_what_comes_during_a_delivery_the_next_time(
    execution: Execution, connection: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = publisher(execution, "alice", down(), tmp_path)
    events.publish(RUNNING, "task_started")
    sending = Stream.append

    def while_another_comes(*args: Any) -> None:
        sending(*args)
        patch.undo()
        events.publish(RUNNING, "sf_init")

    journal = Journal(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Stream, "append", while_another_comes)
        assert journal.deliver(stream(connection, "alice")) == 1
    assert journal.deliver(stream(connection, "alice")) == 1
    assert journal.deliver(stream(connection, "alice")) == 0
    assert connection.xlen(stream_of("alice")) == 2


def test_it_forgets_what_was_applied_and_nothing_else(
    execution: Execution, connection: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    publish_success(execution, "alice", connection, tmp_path)
    journal.forget_applied()
    [file] = tmp_path.glob("*.jsonl")  # a delivery could be under way
    monkeypatch.setattr(Journal, "SETTLED_AFTER", -1)
    journal.mark_late(file.name, 0)
    journal.forget_applied()
    assert file.exists()
    assert journal.deliver(stream(connection, "alice")) == 5
    journal.forget_applied()
    assert not file.exists()


def test_it_skips_half_a_line(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    publish_success(execution, "alice", down(), tmp_path)
    [file] = tmp_path.glob("*.jsonl")
    with file.open("ab") as handle:
        handle.write(b'{"task_request_id": "\xc3')
    assert Journal(tmp_path).deliver(stream(connection, "alice")) == 5


def test_it_never_raises_when_nothing_can_be_delivered_or_kept(execution: Execution, tmp_path: Path) -> None:
    publish_success(execution, "alice", down(), tmp_path / "missing")


@pytest.mark.parametrize("trouble", ["", "full", "away", "unsound"])
def test_whatever_happens_to_an_event_its_sender_keeps_nothing(
    execution: Execution, connection: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """SecretFlow's objects are numbered work as they are freed: a party that frees one later than its peers, as a
    Redis error of its own still refers to the frame that had it, waits for them for ever."""

    class Held:
        pass

    def epoch(events: Publisher) -> weakref.ref[Held]:
        held = Held()
        events.progress(0.5)
        return weakref.ref(held)

    events = publisher(execution, "alice", down() if trouble == "away" else connection, tmp_path)
    if trouble == "unsound":
        monkeypatch.setattr(Journal, "append", refuse_in_a_circle)
    gc.collect()
    gc.disable()
    if trouble == "full":
        connection.config_set("min-replicas-to-write", 1)
    try:
        found = epoch(events)
        assert found() is None
    finally:
        connection.config_set("min-replicas-to-write", 0)
        gc.enable()


def refuse_in_a_circle(*_: Any) -> int:
    """As redis-py's pipelines do: the error is kept in the frame that raises it."""
    error = OSError(28, "No space left on device")
    raise error
