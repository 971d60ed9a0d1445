"""One bad thing stays one bad thing: the coordinator goes on, and what is honest is applied."""

from __future__ import annotations

import json
import logging
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import DataError, OperationalError
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from controlplane.models import Dataset, Party, Schedule
from executions.coordinator import dead_letters, enqueue, isolation, pipelines, schedules
from executions.coordinator import listener as listening
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.enqueue import Enqueuer
from executions.coordinator.listener import Listener
from executions.coordinator.loop import Coordinator
from executions.coordinator.recovery import Recovery
from executions.models import DeadLetter, Execution, ExecutionEvent, PartyCheck, PartyRun, PipelineRun, PortLease
from executions.states import RunStatus, Status
from tests import keys
from tests.simulated import add_worker, dispatch, finish, publish_success, settle_down, status, submit
from workers.contract.errors import ConfigError
from workers.contract.events import PIECE_SIZE
from workers.contract.keys import stream_of

GOOD = {
    "status": "RUNNING", "task_name": "secretflow.execute_psi_task", "timestamp": "2026-01-04T00:38:00+00:00",
    "worker_container": "w", "party": "alice", "attempt": 1, "sequence": 1,
    "data": {"stage": "task_started"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def a_new_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters._Minute, "began", 0.0)
    monkeypatch.setattr(dead_letters._Minute, "letters", Counter())
    monkeypatch.setattr(isolation, "_told", {})


def event(execution: Execution, **changes: Any) -> dict[str, Any]:
    return GOOD | {"task_request_id": str(execution.pk)} | changes


def send(connection: Redis, kind: str, content: Any, party: str = "alice") -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content)
    keys.send(connection, party, **{kind: raw})


# --- events


@pytest.mark.parametrize(
    "timestamp", ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+14:00", "1969-01-01T00:00:00+00:00"]
)
def test_an_event_of_a_clock_that_is_far_off_counts_at_the_time_it_came(
    execution: Execution, connection: Redis, timestamp: str
) -> None:
    send(connection, "event", event(execution, timestamp=timestamp))
    Listener(connection).step()
    assert abs(ExecutionEvent.objects.get().timestamp - timezone.now()) < timedelta(minutes=1)
    assert execution.runs.get(party__name="alice").status == RunStatus.RUNNING


def test_an_event_that_cannot_be_applied_is_set_aside_and_the_others_of_its_batch_count(
    execution: Execution, connection: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = listening.fold

    def poisoned(run: PartyRun, events: Any) -> None:
        if any(e.data.get("poison") for e in events):
            raise DataError("value out of range")
        fold(run, events)

    monkeypatch.setattr(listening, "fold", poisoned)
    send(connection, "event", event(execution, sequence=1))
    send(connection, "event", event(execution, sequence=2, data={"stage": "sf_init", "poison": True}))
    send(connection, "event", event(execution, sequence=3, data={"stage": "devices_ready"}))
    publish_success(execution, "bob", connection, tmp_path)
    Listener(connection).step()
    assert execution.runs.get(party__name="alice").stage == "devices_ready"
    assert execution.runs.get(party__name="bob").status == RunStatus.SUCCESS
    letter = DeadLetter.objects.get()
    assert (letter.party, letter.kind, letter.reason) == ("alice", "event", "DataError: value out of range")
    assert '"poison":true' in letter.content
    assert connection.xlen(stream_of("alice")) == 0


def test_what_concerns_everything_is_done_again_and_sets_nothing_aside(
    execution: Execution, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(connection, "event", event(execution))
    listener = Listener(connection)
    with monkeypatch.context() as patch:
        patch.setattr(listening, "fold", lambda *_: (_ for _ in ()).throw(OperationalError("database is locked")))
        with pytest.raises(OperationalError):
            listener.step()
    assert not DeadLetter.objects.exists()
    listener.step()
    assert ExecutionEvent.objects.count() == 1


def test_what_is_nothing_is_set_aside_with_the_reason(execution: Execution, connection: Redis) -> None:
    send(connection, "event", b"\x00\xff{")
    send(connection, "event", event(execution, status="DONE"))
    send(connection, "event", b"x" * 3 * PIECE_SIZE)
    send(connection, "datasets", {"datasets": {"t": {}}, "names": "x"})
    send(connection, "preflight", {"preflight": "x"})
    Listener(connection).step()
    letters = {letter.kind: letter for letter in DeadLetter.objects.all()}
    assert DeadLetter.objects.count() == 5
    assert "names: " in letters["datasets report"].reason
    assert "preflight: " in letters["preflight report"].reason
    reasons = set(DeadLetter.objects.filter(kind="event").values_list("reason", flat=True))
    assert reasons == {
        "it is no JSON", f"it is longer than {2 * PIECE_SIZE:,} bytes",
        "status: is not one of the allowed values; should be 'RUNNING', 'SUCCESS', 'FAILURE' or 'RETRY'",
    }  # fmt: skip
    assert DeadLetter.objects.filter(content__startswith="\\x00\\xff{").exists()


def test_a_flood_of_malformed_entries_fills_no_database(execution: Execution, connection: Redis) -> None:
    for number in range(300):
        send(connection, "event", f"junk {number}".encode())
    send(connection, "event", event(execution, party="bob"), party="bob")
    listener = Listener(connection)
    listener.step()
    assert execution.runs.get(party__name="bob").status == RunStatus.RUNNING, "in the same step as the flood"
    while connection.xlen(stream_of("alice")):
        listener.step()
    assert DeadLetter.objects.count() == dead_letters.MOST_A_MINUTE


def test_a_flood_of_events_for_no_run_fills_no_log(
    execution: Execution, connection: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1, 50):
        send(connection, "event", event(execution, task_request_id=str(uuid4()), sequence=number))
        send(connection, "preflight", {"preflight": str(uuid4()), "checks": []})
    Listener(connection).step()
    assert caplog.text.count("alice sent an event for a run it does not have") == 1
    assert caplog.text.count("alice reported pre-flight checks that nobody waits for") == 1


def test_the_newest_letters_of_a_party_are_kept(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "MOST_KEPT", 3)
    for number in range(7):
        dead_letters.set_aside("alice", "event", b"%d" % number, "odd")
    dead_letters.set_aside("bob", "event", b"b", "odd")
    kept = DeadLetter.objects.filter(party="alice").order_by("pk").values_list("content", flat=True)
    assert list(kept) == ["4", "5", "6"]
    assert DeadLetter.objects.filter(party="bob").count() == 1


def test_one_run_s_events_fill_no_database(
    execution: Execution, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "MOST_EVENTS", 20)
    listener = Listener(connection)
    for sequence in range(1, 60):
        send(connection, "event", event(execution, sequence=sequence))
    send(connection, "event", event(execution, sequence=60, status="SUCCESS", data={"stage": "task_execution"}))
    while connection.xlen(stream_of("alice")):
        listener.step()
    assert ExecutionEvent.objects.count() == 20
    assert execution.runs.get(party__name="alice").status == RunStatus.SUCCESS, "the last one counts all the same"


def test_a_party_s_reports_take_no_more_than_their_share_of_a_step(
    execution: Execution, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = []
    monkeypatch.setattr(Listener, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(listening.reports, "apply", lambda party, kind, raw: applied.append(raw))
    for number in range(5):
        send(connection, "datasets", {"number": number})
    send(connection, "event", event(execution, party="bob"), party="bob")
    listener = Listener(connection)
    listener.step()
    assert len(applied) < 5
    for _ in range(10):
        listener.step()
    assert [json.loads(raw)["number"] for raw in applied] == list(range(5)), "each once, in their order"
    assert execution.runs.get(party__name="bob").status == RunStatus.RUNNING
    assert connection.xlen(stream_of("alice")) == 0


def test_a_thousand_tables_take_a_handful_of_queries(
    parties: dict[str, Party], django_assert_max_num_queries: Any
) -> None:
    columns = {f"c{number}": "int" for number in range(20)}
    tables = {f"t{number}": {"columns": columns, "rows": 5} for number in range(1000)}

    def told(at: float) -> bytes:
        said = {"publication": "00000000-0000-4000-8000-000000000001", "told_at": at, "datasets": tables}
        return json.dumps(said).encode()

    room = Dataset.objects.filter(party__name="alice").count()
    with django_assert_max_num_queries(60):  # SQLite takes some hundred rows a query
        listening.reports.apply("alice", "datasets", told(1e9))
    assert Dataset.objects.filter(party__name="alice").count() == 1000
    assert Dataset.history.filter(party__name="alice", name="t1").count() == 1
    with django_assert_max_num_queries(10):
        listening.reports.apply("alice", "datasets", told(1e9 + 1))
    tables["t5"]["rows"] = 6
    listening.reports.apply("alice", "datasets", told(1e9 + 2))
    assert Dataset.objects.get(party__name="alice", name="t5").reported_rows == 6
    assert room <= 1


# --- executions, pipelines, schedules


def test_documents_of_another_version_end_their_own_execution_alone(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for party in parties:
        for worker in ("1", "2"):
            add_worker(connection, party, worker)
    old, good = submit(), submit()
    dispatch(Dispatcher(connection))
    for execution in (old, good):
        execution.refresh_from_db()
    Execution.objects.filter(pk=old.pk).update(documents=old.documents | {"task_config": {"was": "another key then"}})
    now = timezone.now()
    result = {"outputs": {"o": {"columns": {"a": "int"}}}}
    runs = PartyRun.objects.filter(released_at=None)
    runs.update(status=RunStatus.SUCCESS, ended_at=now, released_at=now, started_at=now, enqueued_at=now, result=result)
    Recovery(connection).step()
    assert (status(old), status(good)) == (Status.FAILURE, Status.SUCCESS)
    assert old.error.startswith("the control plane could not bring it to its end: ")
    assert [c.to_status for c in old.changes.all()][-1] == "FAILURE"


def test_jobs_that_cannot_be_put_together_stop_no_other_dispatching(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for party in parties:
        for worker in ("1", "2"):
            add_worker(connection, party, worker)
    bad, good = submit(), submit()
    complete = enqueue.completed_for

    def without_its_key(party: Party, documents: Any, job_name: str, *args: Any) -> Any:
        if job_name.startswith(str(bad.pk)):
            raise ConfigError("a secret of spu_config can no longer be decrypted")
        return complete(party, documents, job_name, *args)

    monkeypatch.setattr(enqueue, "completed_for", without_its_key)
    dispatcher = Dispatcher(connection)
    dispatch(dispatcher)
    assert (status(bad), status(good)) == (Status.DISPATCHED, Status.DISPATCHED)
    assert connection.llen("rq:queue:alice") == 1
    assert "can no longer be decrypted" in bad.waiting_for, "another coordinator may have the key"
    assert not dispatcher.enqueuer.missing(), "a step that did nothing waits for events"
    PartyRun.objects.update(dispatched_at=timezone.now() - Enqueuer.LIMIT)
    dispatcher.step()
    settle_down(Recovery(connection), lambda: status(bad) == Status.FAILURE)
    assert "can no longer be decrypted" in bad.error
    assert bad.error_type == "ConfigError"
    assert not PortLease.objects.filter(run__execution=bad).exists()
    finish(good)


def test_an_execution_that_cannot_be_dispatched_says_so_and_stops_no_other(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for party in parties:
        add_worker(connection, party)
    bad = submit()
    good = submit()
    begin = Dispatcher._begin

    def fails(self: Dispatcher, pk: Any, capacity: Any) -> str:
        if pk == bad.pk:
            raise KeyError("cluster")
        return begin(self, pk, capacity)

    monkeypatch.setattr(Dispatcher, "_begin", fails)
    dispatch(Dispatcher(connection))
    assert (status(bad), status(good)) == (Status.QUEUED, Status.DISPATCHED)
    assert bad.waiting_for == "the control plane could not dispatch it: KeyError: 'cluster'"


def test_a_run_that_recovery_fails_at_keeps_no_other_from_its_end(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GRACE_SECONDS", "REPORT_SECONDS"):
        monkeypatch.setattr(Recovery, name, 0)
    for party in parties:
        for worker in ("1", "2"):
            add_worker(connection, party, worker)
    bad, good = submit(), submit()
    dispatch(Dispatcher(connection))
    look = Recovery._look_after

    def fails(self: Recovery, run: PartyRun, *args: Any) -> bool:
        if run.execution_id == bad.pk:
            raise ValueError("odd")
        return look(self, run, *args)

    monkeypatch.setattr(Recovery, "_look_after", fails)
    for execution in (bad, good):
        execution.refresh_from_db()
        execution.cancel()
    settle_down(Recovery(connection), lambda: status(good) == Status.CANCELLED)
    assert status(bad) == Status.CANCELLING


def test_a_pipeline_run_and_a_schedule_that_fail_stop_no_other(
    db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = uuid4(), uuid4()
    advanced = []

    def advance(pk: Any) -> bool:
        if pk == first:
            raise KeyError("node")
        advanced.append(pk)
        return True

    monkeypatch.setattr(pipelines, "_to_be_advanced", lambda: [first, second])
    monkeypatch.setattr(pipelines, "advance", advance)
    assert pipelines.step()
    assert pipelines.step()
    assert advanced == [second, second]
    assert caplog.text.count(f"pipeline run {first}: KeyError: 'node'") == 1, "the log is told once"
    assert not PipelineRun.objects.exists()


def test_a_schedule_that_cannot_start_is_skipped_with_the_reason(
    parties: dict[str, Party], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.composed import make_task

    due = timezone.now() - timedelta(minutes=1)
    made = []
    for name in ("bad", "good"):
        schedule = Schedule.objects.create(name=name, task=make_task(name), cron="0 3 * * *")
        Schedule.objects.filter(pk=schedule.pk).update(next_run_at=due)
        made.append(schedule)
    start = schedules._submit

    def fails(schedule: Schedule, tick: Any) -> None:
        if schedule.name == "bad":
            raise KeyError("task")
        start(schedule, tick)

    monkeypatch.setattr(schedules, "_submit", fails)
    schedules.step()
    bad, good = (schedule.ticks.get() for schedule in made)
    assert bad.skipped == "the control plane could not start it: KeyError: 'task'"
    assert (good.skipped, good.execution is not None) == ("", True)
    for schedule in made:
        schedule.refresh_from_db()
        assert schedule.next_run_at
        assert schedule.next_run_at > timezone.now()


def test_a_step_of_the_coordinator_that_fails_keeps_the_others_from_nothing(
    execution: Execution, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = Coordinator()
    monkeypatch.setattr(Recovery, "step", lambda _: (_ for _ in ()).throw(TypeError("a fault of ours")))
    send(connection, "event", event(execution))
    coordinator.step()
    assert ExecutionEvent.objects.count() == 1


def test_the_log_shows_no_value_of_a_document(caplog: pytest.LogCaptureFixture) -> None:
    from pydantic import BaseModel

    class Config(BaseModel):
        pin: int

    document = {"pin": "very-" + "secret"}
    with caplog.at_level(logging.ERROR), isolation.alone("a document"):
        Config.model_validate(document)
    assert "a document: pin: Input should be a valid integer" in caplog.text
    assert "very-secret" not in caplog.text


# --- anything

EDGES: st.SearchStrategy[Any] = st.sampled_from(
    [2**31, 2**63, -(2**63), 10**400, 1e308, -0.0, float("inf"), float("nan"), "", "\0", "\ud800", "x" * 70_000,
     "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+23:59", "2026-01-01T00:00:00Z", [], {}, None, True]
)  # fmt: skip
ANYTHING = st.recursive(
    EDGES | st.integers() | st.text(max_size=20) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS: dict[str, dict[str, Any]] = {
    "event": GOOD,
    "datasets": {
        "datasets": {},
        "names": [],
        "publication": "00000000-0000-4000-8000-000000000001",
        "told_at": 1e9,
    },
    "preflight": {"facts": {}, "checks": []},
}
SENT = st.one_of(
    st.tuples(st.sampled_from([*FIELDS, "piece", "other"]), st.binary(max_size=200)),
    st.tuples(st.sampled_from(list(FIELDS)), ANYTHING),
    *(
        st.tuples(st.just(kind), st.dictionaries(st.sampled_from([*fields, "data", "columns"]), ANYTHING, max_size=3))
        for kind, fields in FIELDS.items()
    ),
)


@given(sent=st.lists(SENT, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_a_party_sends_the_others_events_are_applied(
    execution: Execution, connection: Redis, sent: list[tuple[str, Any]]
) -> None:
    check = PartyCheck.objects.filter(party__name="alice").first()
    coordinator = Coordinator()
    number = ExecutionEvent.objects.filter(party="bob").count() + 1
    for kind, content in sent:
        if isinstance(content, bytes):
            send(connection, kind, content)
            continue
        base: dict[str, Any] = {**FIELDS[kind]}
        if kind == "event":
            base |= {"task_request_id": str(execution.pk), "sequence": 100 + number}
        elif kind == "preflight" and check:
            base |= {"preflight": str(check.preflight_id)}
        whole = base | content if isinstance(content, dict) else content
        send(connection, kind, json.dumps(whole).encode())
    send(connection, "event", event(execution, party="bob", sequence=number), party="bob")
    coordinator.step()
    assert ExecutionEvent.objects.filter(party="bob", sequence=number).exists()
    for _ in range(5):
        coordinator.step()
    assert connection.xlen(stream_of("alice")) == 0
    # What was taken can be shown
    assert [str(e.timestamp) for e in ExecutionEvent.objects.all()]


def test_an_entry_of_no_kind_is_set_aside(parties: dict[str, Party], connection: Redis) -> None:
    for fields in ({"x": "y"}, {"ready": "alice-1"}):
        connection.xadd(stream_of("alice"), fields)
    Listener(connection).step()
    assert connection.xlen(stream_of("alice")) == 0
    [letter] = DeadLetter.objects.all()
    assert (letter.party, letter.kind) == ("alice", "entry")
    assert "none of what a party" in letter.reason
