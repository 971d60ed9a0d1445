"""Results of any size: in pieces from a party into the database, whatever happens to the pieces on their way."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from django.utils import timezone
from redis import Redis

from executions.coordinator.listener import Listener
from executions.coordinator.recovery import Recovery
from executions.models import EventPiece, Execution, ExecutionEvent, PartyRun
from executions.states import RunStatus, Status
from tests.composed import admin_client, api_client, documents, make_parties, superuser
from tests.keys import send, stream
from tests.parties import Parties, Processes
from tests.simulated import down, publish_success, publisher, status
from workers.contract.errors import AlgorithmError, ConfigError
from workers.contract.events import EVENT_LIMIT, FAILURE, MOST_PIECES, PIECE_SIZE, RESULT_LIMIT, RUNNING, SUCCESS
from workers.contract.keys import stream_of
from workers.contract.run_name import RunName
from workers.runtime.journal import Journal
from workers.runtime.publisher import Publisher


def result_of(size: int) -> dict[str, Any]:
    """A result of about so many bytes of JSON."""
    row = {"column": "x" * 36, "mean": 1.25, "max": 99}
    return {"statistics": {f"feature_{n}": row for n in range(size // 85)}}


LARGE = result_of(400_000)


def succeed(execution: Execution, party: str, connection: Redis, directory: Path, result: Any = None) -> None:
    events = publisher(execution, party, connection, directory)
    events.publish(RUNNING, "task_started")
    events.publish(SUCCESS, "task_execution", result=LARGE if result is None else result)
    events.publish(SUCCESS, "cleanup")


def entries_of(connection: Redis, party: str) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in connection.xrange(stream_of(party))]


def listen(connection: Redis) -> None:
    """Until all that was sent is applied: a step takes its share."""
    listener = Listener(connection)
    while listener.step():
        pass


@pytest.fixture
def awaiting_bob(execution: Execution, connection: Redis, tmp_path: Path) -> Execution:
    publish_success(execution, "alice", connection, tmp_path)
    Listener(connection).step()
    return execution


def test_it_keeps_a_large_result_once_and_shows_a_part_of_it(
    awaiting_bob: Execution, connection: Redis, tmp_path: Path
) -> None:
    succeed(awaiting_bob, "bob", connection, tmp_path)
    assert max(len(value) for fields in entries_of(connection, "bob") for value in fields.values()) <= PIECE_SIZE
    Listener(connection).step()
    assert status(awaiting_bob) == Status.SUCCESS
    assert awaiting_bob.result == {"intersection_count": {"alice": 3}} | LARGE
    assert awaiting_bob.runs.get(party__name="bob").result == LARGE
    verdict = awaiting_bob.events.get(party="bob", sequence=2)
    assert verdict.data["result"].startswith("left out: ")
    assert (verdict.status, verdict.data["stage"]) == (SUCCESS, "task_execution")
    assert not EventPiece.objects.exists()

    browser, service = admin_client(superuser()), api_client(superuser())
    page = browser.get(f"/admin/executions/execution/{awaiting_bob.pk}/change/").content.decode()
    assert "The first figures; the API has all of them." in page
    assert len(page) < 300_000
    assert service.get(f"/api/v1/executions/{awaiting_bob.pk}/").json()["result"] == awaiting_bob.result


@pytest.mark.parametrize("seed", range(3))
def test_pieces_come_in_any_order_repeatedly_and_to_several_coordinators(
    awaiting_bob: Execution, connection: Redis, tmp_path: Path, seed: int
) -> None:
    succeed(awaiting_bob, "bob", connection, tmp_path)
    entries = entries_of(connection, "bob") * 2
    connection.delete(stream_of("bob"))
    random.Random(seed).shuffle(entries)
    for fields in entries:
        connection.xadd(stream_of("bob"), fields)
        Listener(connection).step()  # another one each time: what it knows is in the database
    assert status(awaiting_bob) == Status.SUCCESS
    assert awaiting_bob.runs.get(party__name="bob").result == LARGE
    assert not EventPiece.objects.exists()
    assert awaiting_bob.events.filter(party="bob").count() == 3


def test_pieces_that_redis_lost_are_told_again_from_the_journal(
    awaiting_bob: Execution, connection: Redis, tmp_path: Path
) -> None:
    succeed(awaiting_bob, "bob", connection, tmp_path)
    sent: Any = connection.xrange(stream_of("bob"))
    for index, (entry, fields) in enumerate(sent):
        if b"piece" in fields and index % 2:
            connection.xdel(stream_of("bob"), entry)
    Listener(connection).step()
    assert EventPiece.objects.exists()
    connection.flushdb()
    assert Journal(tmp_path).deliver(stream(connection, "bob"), everything=True) > 3
    Listener(connection).step()
    assert status(awaiting_bob) == Status.SUCCESS
    assert awaiting_bob.runs.get(party__name="bob").result == LARGE
    assert not EventPiece.objects.exists()


def test_it_delivers_a_large_result_when_redis_is_back(
    awaiting_bob: Execution, connection: Redis, tmp_path: Path
) -> None:
    home = tmp_path / "bob"
    home.mkdir()
    large = result_of(3_000_000)  # more than one round trip
    succeed(awaiting_bob, "bob", down(), home, large)
    assert Journal(home).deliver(stream(connection, "bob")) == 3
    Listener(connection).step()
    assert awaiting_bob.runs.get(party__name="bob").result == large
    assert status(awaiting_bob) == Status.SUCCESS


def test_pieces_of_a_result_that_was_never_finished_are_removed(
    awaiting_bob: Execution, connection: Redis, tmp_path: Path
) -> None:
    succeed(awaiting_bob, "bob", connection, tmp_path)
    sent: Any = connection.xrange(stream_of("bob"))
    connection.xdel(stream_of("bob"), [entry for entry, fields in sent if b"piece" in fields][-1])
    # as a worker says of a process that was killed while it sent them
    last = publisher(awaiting_bob, "bob", connection, tmp_path, first_sequence=1_000_000)
    last.publish(FAILURE, "cleanup", error="killed", error_type="AlgorithmError")
    Listener(connection).step()
    Recovery(connection).step()
    assert status(awaiting_bob) == Status.FAILURE
    assert not EventPiece.objects.exists()


def test_a_party_fills_no_more_of_the_database_than_one_event_may(awaiting_bob: Execution, connection: Redis) -> None:
    header = {"task_request_id": str(awaiting_bob.pk), "party": "bob", "attempt": 1}
    for sequence in range(1, 4):
        for number in range(1, MOST_PIECES):
            part = header | {"sequence": sequence, "number": number, "of": MOST_PIECES}
            send(connection, "bob", piece=json.dumps(part), text="{")
    listener = Listener(connection)
    while listener.step():
        pass
    assert EventPiece.objects.count() == MOST_PIECES
    assert status(awaiting_bob) == Status.RUNNING


PART = {"party": "bob", "attempt": 1, "sequence": 1, "number": 1, "of": 2}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"party": "alice"}, b"x"), ({"attempt": 2}, b"x"), ({"attempt": "one"}, b"x"), ({"sequence": 2**40}, b"x"),
        ({"number": 3}, b"x"), ({"number": 0}, b"x"), ({"of": 1}, b"x"), ({"of": MOST_PIECES + 1}, b"x"),
        ({}, b""), ({}, b"x" * (PIECE_SIZE + 1)), ({"task_request_id": "../x"}, b"x"), ({"number": [1]}, b"x"),
    ],
)  # fmt: skip
def test_it_drops_a_piece_that_a_party_may_not_send(
    awaiting_bob: Execution, connection: Redis, change: dict[str, Any], text: bytes
) -> None:
    part = PART | {"task_request_id": str(awaiting_bob.pk)} | change
    send(connection, "bob", piece=json.dumps(part), text=text)
    send(connection, "bob", piece="{", text=b"x")
    send(connection, "bob", piece=b"\xff")
    Listener(connection).step()
    assert not EventPiece.objects.exists()
    assert connection.xlen(stream_of("bob")) == 0


def test_pieces_cannot_make_up_an_event_of_another_run(
    awaiting_bob: Execution, connection: Redis, tmp_path: Path
) -> None:
    event = {
        "task_request_id": str(awaiting_bob.pk), "status": "FAILURE", "timestamp": "2026-01-04T00:38:00Z",
        "data": {"stage": "sf_init", "error": "x"}, "party": "bob", "attempt": 1, "sequence": 9,
    }  # fmt: skip
    text = json.dumps(event)
    for number, part in enumerate((text[:50], text[50:]), 1):
        header = PART | {"task_request_id": str(awaiting_bob.pk), "sequence": 8, "number": number}
        send(connection, "bob", piece=json.dumps(header), text=part)
    Listener(connection).step()
    assert not ExecutionEvent.objects.filter(party="bob").exists()
    assert not EventPiece.objects.exists()


# --- what is too large is refused at the party, in words


def test_a_result_beyond_the_limit_fails_with_words(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    events = publisher(execution, "alice", connection, tmp_path)
    with pytest.raises(AlgorithmError) as refused:
        events.publish(SUCCESS, "task_execution", result={"text": "x" * RESULT_LIMIT})
    assert str(refused.value) == (
        f"the result has {RESULT_LIMIT + 11:,} bytes, and a party can report at most 12,582,912; "
        "run the task over fewer columns, in several runs"
    )
    assert not connection.exists(stream_of("alice"))


def test_the_largest_result_arrives(awaiting_bob: Execution, connection: Redis, tmp_path: Path) -> None:
    largest = {"text": "x" * (RESULT_LIMIT - 11)}
    succeed(awaiting_bob, "bob", connection, tmp_path, largest)
    listen(connection)
    assert status(awaiting_bob) == Status.SUCCESS
    assert awaiting_bob.result["text"] == largest["text"]


def test_nothing_else_of_an_event_makes_it_too_large(
    awaiting_bob: Execution, connection: Redis, tmp_path: Path
) -> None:
    events = publisher(awaiting_bob, "bob", connection, tmp_path)
    problem = {"path": "x" * 1000, "wrong": "is required", "right": "add it"}
    events.publish(RUNNING, "task_started", devices_initialized=["x" * EVENT_LIMIT])
    events.publish(FAILURE, "sf_init", error="e" * 10**6, error_type="ConfigError", problems=[problem] * 30_000)
    Listener(connection).step()
    assert status(awaiting_bob) == Status.FAILURE
    assert awaiting_bob.error_type == "ConfigError"
    assert awaiting_bob.error.endswith("... (1,000,000 characters; the rest is left out)")
    assert len(awaiting_bob.error) == 4000
    assert awaiting_bob.events.filter(party="bob").count() == 2


def test_a_worker_may_have_a_long_name(execution: Execution, connection: Redis, tmp_path: Path) -> None:
    made = Publisher(
        stream(connection, "alice"), run=RunName(str(execution.pk), 1), worker="w" * 500, task_type="psi",
        journal_dir=tmp_path,
    )  # fmt: skip
    made.publish(RUNNING, "task_started")
    Listener(connection).step()
    assert execution.runs.get(party__name="alice").worker == "w" * 200


def test_a_report_beyond_the_limit_is_refused(connection: Redis) -> None:
    with pytest.raises(ConfigError, match=r"the datasets report has 2,097,\d+ bytes"):
        stream(connection, "alice").report("datasets", {"x": "y" * 2**21})
    assert not connection.exists(stream_of("alice"))


# --- real runs


def test_a_table_of_many_columns_is_intersected(
    processes: Processes, tmp_path: Path, connection: Redis, db: None
) -> None:
    """Its columns are part of the result: 1,701 names, and more of one party than went into one entry."""
    parties = Parties(
        processes, tmp_path, ["alice", "bob"], spu_config={"runtime_config": {"protocol": "SEMI2K", "field": "FM128"}}
    )
    wide = {f"a_feature_with_a_long_name_{n:09d}": [n, n, n] for n in range(1700)}
    try:
        for name in parties.names:
            parties.table(name, "table", pd.DataFrame({"id": ["k1", "k2", "k3"], **wide}))
        answers = parties.answers(
            {
                "task_type": "psi",
                "data_sources": {"alice": "table", "bob": "table"},
                "outputs": {"alice": "common", "bob": "common"},
                "algorithm_params": {
                    "psi_params": {"input_keys": {"alice": ["id"], "bob": ["id"]}, "receivers": ["alice", "bob"]}
                },
            }
        )
    finally:
        parties.close()
    said = json.loads(entries_of(connection, "alice")[0][b"event"])
    known = make_parties()
    execution = Execution.objects.create(
        id=said["task_request_id"], task_type="psi", parties=list(known), documents=documents(),
        status=Status.DISPATCHED, attempt=1,
    )  # fmt: skip
    for name, party in known.items():
        PartyRun.objects.create(
            execution=execution, party=party, attempt=1, job_id=f"{name}-x", enqueued_at=timezone.now()
        )
    Listener(connection).step()
    assert status(execution) == Status.SUCCESS
    assert {run.status for run in execution.runs.all()} == {RunStatus.SUCCESS}
    columns = execution.runs.get(party__name="bob").result["outputs"]["common"]["columns"]
    assert columns == {"id": "str", **dict.fromkeys(wide, "int")}
    assert answers["bob"]["result_metadata"]["outputs"]["common"]["columns"] == columns
