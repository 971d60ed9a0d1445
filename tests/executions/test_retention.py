"""What is old goes, with all that hangs on it; what runs, or what something refers to, stays."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db import OperationalError, transaction
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from knox.models import AuthToken
from redis import Redis
from redis.exceptions import ResponseError

from controlplane.environment import environment
from controlplane.models import Dataset, Party, Schedule, Task
from executions.coordinator import pruning as pruning_module
from executions.coordinator import retention
from executions.coordinator.leftovers import Leftovers
from executions.coordinator.loop import Coordinator
from executions.coordinator.pruning import Pruning, to_be_removed
from executions.coordinator.retention import Executions, Kind, Place, kinds
from executions.coordinator.upkeep import Upkeep
from executions.models import (
    DeadLetter,
    EventPiece,
    Execution,
    ExecutionEvent,
    NodeRun,
    PartyCheck,
    PartyRun,
    PipelineRun,
    Preflight,
    StateChange,
    Tick,
)
from executions.states import ENDED, RunStatus, Status
from tests.benchmarks.filled import Size, fill
from tests.composed import make_chain, make_execution, make_pipeline, make_task, make_user
from tests.executions.test_scale import SCAN
from tests.simulated import end_node, settle_pipelines

pytestmark = pytest.mark.django_db

OLD = timedelta(days=400)


def prune() -> dict[str, int]:
    """Returns how many were removed, by kind."""
    pruning = Pruning()
    while pruning.step(0.05):
        pass
    return dict(+pruning.removed)


def ago(**apart: float) -> datetime:
    return timezone.now() - timedelta(**apart)


def make_old(**fields: Any) -> Execution:
    """Ended long ago, after two parties' runs."""
    then = timezone.now() - OLD
    fields = {"status": Status.SUCCESS, "created_at": then, "ended_at": then, "attempt": 1} | fields
    execution = make_execution(**fields)
    for party in Party.objects.all():
        run = PartyRun.objects.create(
            execution=execution, party=party, attempt=1, job_id=f"{party}-{execution.pk}-1",
            status=RunStatus.SUCCESS, ended_at=then, released_at=then,
        )  # fmt: skip
        EventPiece.objects.create(run=run, sequence=9, number=1, of=2, content=b"x")
        for sequence in (1, 2):
            add_event(execution, party.name, sequence)
        check = Preflight.objects.create(execution=execution, requested_at=then)
        PartyCheck.objects.create(preflight=check, party=party)
    return execution


def add_event(execution: Execution, party: str, sequence: int) -> None:
    now = timezone.now()
    ExecutionEvent.objects.create(
        execution=execution, party=party, attempt=1, sequence=sequence, status="RUNNING", timestamp=now
    )


# --- executions


def test_an_old_execution_goes_with_all_that_hangs_on_it_and_a_younger_one_stays(parties: dict[str, Party]) -> None:
    old, young = make_old(), make_old(ended_at=ago(days=364))
    pruning = Pruning()
    while pruning.step(0):
        pass
    assert [execution.pk for execution in Execution.objects.all()] == [young.pk]
    for model in (PartyRun, ExecutionEvent, StateChange, Preflight):
        assert {row.execution_id for row in model.objects.all()} == {young.pk}, model
    assert (PartyCheck.objects.count(), EventPiece.objects.count()) == (2, 2)
    assert +pruning.removed == {"executions": 1}
    assert pruning.rows == {
        "Execution": 1, "PartyRun": 2, "EventPiece": 2, "ExecutionEvent": 4, "StateChange": 1, "Preflight": 2,
        "PartyCheck": 2,
    }  # fmt: skip
    assert old.pk != young.pk


@pytest.mark.parametrize("status", [status for status in Status if status not in ENDED])
def test_what_has_not_ended_stays_however_old_it_is(parties: dict[str, Party], status: Status) -> None:
    execution = make_old(status=status, ended_at=None)
    Execution.objects.filter(pk=execution.pk).update(ended_at=ago(days=400))  # not even then
    prune()
    assert Execution.objects.exists()


def test_what_a_party_s_process_may_still_compute_stays(parties: dict[str, Party]) -> None:
    execution = make_old(status=Status.CANCELLED)
    execution.runs.filter(party=parties["bob"]).update(released_at=None)
    prune()
    assert Execution.objects.exists()


def test_what_made_a_table_or_put_its_rows_in_order_stays(parties: dict[str, Party]) -> None:
    maker, order, other = make_old(), make_old(), make_old()
    Dataset.objects.create(
        party=parties["alice"], name="kept", columns={"a": "int"}, produced_by=maker.pk, alignment=f"{order.pk}-1"
    )
    declared = make_old()
    Dataset.objects.create(
        party=parties["bob"], name="kept", columns={"a": "int"}, produced_by=declared.pk, alignment="declared:mine"
    )
    prune()
    assert set(Execution.objects.values_list("pk", flat=True)) == {maker.pk, order.pk, declared.pk}
    Dataset.objects.filter(name="kept").delete()
    prune()
    assert not Execution.objects.exists()
    assert other.pk


def test_nothing_goes_that_is_kept_for_ever(parties: dict[str, Party], monkeypatch: pytest.MonkeyPatch) -> None:
    make_old()
    monkeypatch.setattr(environment, "keep_executions_days", 0)
    assert prune() == {}
    assert Execution.objects.exists()


def test_of_a_very_large_execution_some_goes_in_each_transaction(
    parties: dict[str, Party], monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = make_old()
    for sequence in range(3, 20):
        add_event(execution, "alice", sequence)
    monkeypatch.setattr(retention, "MOST_AT_ONCE", 6)
    told: list[Any] = []
    pruning = Pruning(lambda kind, keys: told.extend(keys))
    left, at_once = ExecutionEvent.objects.count(), []
    while pruning.step(0):
        at_once.append(left - (left := ExecutionEvent.objects.count()))
    assert not Execution.objects.exists()
    assert max(at_once) == 6
    assert told == [execution.pk], "once, before anything of it is gone"
    assert pruning.removed["executions"] == 1


def test_old_ones_that_stay_do_not_keep_those_behind_them(
    parties: dict[str, Party], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning_module, "PAGE", 3)
    then = ago(days=500)  # all at the same time: they are told apart by their ids
    kept = {make_old(created_at=then).pk for _ in range(7)}
    for number, pk in enumerate(kept):
        Dataset.objects.create(party=parties["bob"], name=f"t{number}", columns={"a": "int"}, produced_by=pk)
    for _ in range(4):
        make_old(created_at=then)
    assert to_be_removed()["executions"] == 4
    assert prune()["executions"] == 4
    assert set(Execution.objects.values_list("pk", flat=True)) == kept


# --- pipelines and schedules


def make_run(**outcomes: Status) -> PipelineRun:
    """Of two nodes that ended like this, long ago."""
    make_chain()
    run = PipelineRun.objects.submit(make_pipeline(first="intersect", second="again"))
    settle_pipelines()
    for node, outcome in outcomes.items():
        end_node(run, node, outcome)
    Dataset.objects.update(produced_by=None)
    then = ago(days=400)
    Execution.objects.update(created_at=then)
    Execution.objects.exclude(ended_at=None).update(ended_at=then)
    PipelineRun.objects.update(created_at=then)
    PipelineRun.objects.exclude(ended_at=None).update(ended_at=then)
    run.refresh_from_db()
    return run


def test_an_old_run_of_a_pipeline_goes_and_then_its_executions(connection: Redis) -> None:
    run = make_run(first=Status.SUCCESS, second=Status.FAILURE)
    assert +to_be_removed() == {"pipeline runs": 1, "executions": 2}
    assert prune() == {"pipeline runs": 1, "executions": 2}
    assert not PipelineRun.objects.exists()
    assert not NodeRun.objects.exists()
    assert not Execution.objects.exists()
    assert run.has_ended


def test_what_a_live_run_of_a_pipeline_has_stays(connection: Redis) -> None:
    run = make_run(first=Status.SUCCESS)
    assert not run.has_ended
    assert prune() == {}
    run.refresh_from_db()
    assert {node.name: node.state for node in run.node_states()} == {"first": "SUCCESS", "second": "QUEUED"}


def test_executions_stay_as_long_as_their_pipeline_run(connection: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(first=Status.SUCCESS, second=Status.FAILURE)
    run.retry()
    settle_pipelines()
    end_node(run, "second", Status.FAILURE)
    then = ago(days=400)
    Execution.objects.update(created_at=then, ended_at=then)
    assert prune() == {}, "the run ended just now; what it tried before is shown on its page, too"
    assert Execution.objects.count() == 3
    monkeypatch.setattr(environment, "keep_pipeline_runs_days", 0)
    PipelineRun.objects.update(ended_at=then, created_at=then)
    assert prune() == {}


def test_a_run_that_is_retried_in_this_moment_stays(connection: Redis) -> None:
    run = make_run(first=Status.FAILURE, second=Status.SUCCESS)
    kind = kinds()[0]
    found = kind.page(ago(days=365), None, 10)
    assert found.old == [run.pk]
    run.retry()
    assert kind.remove(found.old)[0] == {}
    assert PipelineRun.objects.exists()


def test_old_ticks_go_unless_what_they_started_still_runs(parties: dict[str, Party], connection: Redis) -> None:
    task = make_task()
    schedule = Schedule.objects.create(name="nightly", cron="30 2 * * *", task=task)
    running, ended = make_execution(task), make_execution(task, status=Status.SUCCESS)
    live = PipelineRun.objects.create(name="live")
    for day, started in enumerate(
        ({"execution": ended}, {"execution": running}, {"pipeline_run": live}, {"skipped": "late"}, {})
    ):
        Tick.objects.create(schedule=schedule, due_at=ago(days=200 - day), at=ago(days=200 - day), **started)
    young = Tick.objects.create(schedule=schedule, due_at=ago(days=80), at=ago(days=80))
    assert prune() == {"schedule ticks": 3}
    assert {(t.execution, t.pipeline_run) for t in Tick.objects.exclude(pk=young.pk)} == {(running, None), (None, live)}


# --- what else grows


def test_what_else_grows_goes_after_its_time(parties: dict[str, Party], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning_module, "PAGE", 1)
    user = make_user("somebody")
    rounds = [Preflight.objects.create(requested_at=ago(days=days)) for days in (366, 364)]
    letters = [DeadLetter.objects.create(party="alice", kind="event", size=1, at=ago(days=d)) for d in (31, 29)]
    sessions = [Session.objects.create(session_key=str(d), expire_date=ago(days=d)) for d in (2, 0.5, -3)]
    # By digests, the old one is not the first
    for days, digest in ((29, "a"), (31, "b"), (-5, "c")):
        token, _ = AuthToken.objects.create(user)
        AuthToken.objects.filter(pk=token.pk).update(digest=digest, expiry=ago(days=days))
    AuthToken.objects.create(user, expiry=None)
    for days in (731, 729):
        entry = LogEntry.objects.create(user=user, action_flag=1)
        LogEntry.objects.filter(pk=entry.pk).update(action_time=ago(days=days))
    expected = {"pre-flight checks": 1, "dead letters": 1, "sessions": 1, "API tokens": 1, "history": 1}
    assert +to_be_removed() == expected
    assert prune() == expected
    assert [row.pk for row in Preflight.objects.all()] == [rounds[1].pk]
    assert [row.pk for row in DeadLetter.objects.all()] == [letters[1].pk]
    assert {row.pk for row in Session.objects.all()} == {session.pk for session in sessions[1:]}
    assert set(AuthToken.objects.exclude(expiry=None).values_list("digest", flat=True)) == {"a", "c"}
    assert AuthToken.objects.count() == 3
    assert LogEntry.objects.count() == 1


def versions(row: Any) -> list[tuple[int, str]]:
    found = type(row).history.filter(id=row.pk).order_by("history_id").select_related("history_user")
    return [(version.version, str(version.history_user or "")) for version in found]


def test_of_the_history_the_newest_version_stays_and_the_newest_by_each_user(parties: dict[str, Party]) -> None:
    """Of a schedule that runs a task in its owner's name, what others have changed is not forgotten."""
    task, ann, bea = make_task(), make_user("ann"), make_user("bea")
    for user in (ann, bea, bea, ann, None):
        task.description = f"{task.description}."
        task._history_user = user  # type: ignore[attr-defined]
        task.save()
    Task.history.update(history_date=ago(days=800))
    task.description = "young"
    task.save()
    assert versions(task) == [(1, ""), (2, "ann"), (3, "bea"), (4, "bea"), (5, "ann"), (6, ""), (7, "")]
    prune()
    assert versions(task) == [(4, "bea"), (5, "ann"), (7, "")]
    Task.history.update(history_date=ago(days=800))
    assert prune() == {}


def test_of_a_deleted_row_all_history_goes_once_its_end_is_old(parties: dict[str, Party]) -> None:
    task = make_task()
    pk = task.pk
    task.delete()
    Task.history.filter(history_type="+").update(history_date=ago(days=800))
    prune()
    assert [version.history_type for version in Task.history.filter(id=pk)] == ["-"], "as who it was, and who did it"
    Task.history.update(history_date=ago(days=800))
    prune()
    assert not Task.history.filter(id=pk).exists()


# --- at a coordinator


@pytest.fixture
def due(connection: Redis, monkeypatch: pytest.MonkeyPatch) -> Upkeep:
    monkeypatch.setattr(Upkeep, "FIRST_AFTER", 0.0)
    return Upkeep(connection)


def test_a_coordinator_removes_once_an_hour_a_little_at_each_step(
    parties: dict[str, Party], due: Upkeep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(Upkeep, "SLICE", 0)
    for name in ("FEWEST", "FEW", "MOST"):
        monkeypatch.setattr(pruning_module, name, 2)
    for _ in range(6):
        make_old()
    left = []
    while due.step():
        left.append(Execution.objects.count())
    assert set(left) >= {6, 4, 2, 0}
    assert [record.message for record in caplog.records] == ["removed what was old: 6 executions"]
    make_old()
    assert not due.step()
    assert Execution.objects.exists(), "an hour has not passed"
    monkeypatch.setattr(due, "_at", 0.0)
    while due.step():
        pass
    assert not Execution.objects.exists()


def test_a_coordinator_has_it_among_its_steps_and_leaves_it_to_the_command_if_told_so(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old()
    coordinator = Coordinator()
    monkeypatch.setattr(environment, "prune_hourly", False)
    monkeypatch.setattr(coordinator.upkeep, "_at", 0.0)
    for _ in range(5):
        coordinator.step()
    assert Execution.objects.exists()
    monkeypatch.setattr(environment, "prune_hourly", True)
    monkeypatch.setattr(coordinator.upkeep, "_at", 0.0)
    for _ in range(5):
        coordinator.step()
    assert not Execution.objects.exists()


def test_a_kind_that_cannot_be_removed_keeps_the_others_from_nothing(
    parties: dict[str, Party], due: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old()
    DeadLetter.objects.create(party="alice", kind="event", size=1, at=ago(days=40))

    def broken(self: Kind, keys: Sequence[Any]) -> Any:
        raise ValueError("of another version")

    monkeypatch.setattr(Executions, "remove", broken)
    while due.step():
        pass
    assert Execution.objects.exists()
    assert not DeadLetter.objects.exists()


def test_what_concerns_everything_is_raised_and_the_next_step_goes_on(
    parties: dict[str, Party], due: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old()
    with monkeypatch.context() as patch:
        patch.setattr(Executions, "remove", lambda *_: (_ for _ in ()).throw(OperationalError("database is locked")))
        with pytest.raises(OperationalError):
            prune()
        with pytest.raises(OperationalError):
            due.step()
    while due.step():
        pass
    assert not Execution.objects.exists()


def test_a_server_that_refuses_a_command_does_not_stop_the_coordinator(
    due: Upkeep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(self: Leftovers) -> bool:
        raise ResponseError("NOPERM this user has no permissions to run the 'eval' command")

    monkeypatch.setattr(Leftovers, "step", refused)
    while due.step():
        pass
    assert "NOPERM" in caplog.text
    assert not due.step()


# --- two at once, and a long past


@pytest.mark.django_db(transaction=True)
def test_what_another_process_is_removing_is_left_to_it(connection: Redis) -> None:
    """On PostgreSQL; SQLite has one writer."""
    if database.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    execution = make_old()
    held, go = Event(), Event()

    def other() -> None:
        with transaction.atomic():
            list(Executions().held([execution.pk]).values_list("pk", flat=True))
            held.set()
            go.wait(10)
        database.close()

    thread = Thread(target=other)
    thread.start()
    assert held.wait(10)
    try:
        assert prune() == {}
        assert Execution.objects.exists()
    finally:
        go.set()
        thread.join()
    assert prune()["executions"] == 1


#: Tables that stay small, or that are read once in a pass.
SMALL = re.compile(r'FROM "(controlplane_dataset|knox_authtoken)"')


def wrong_plans(queries: CaptureQueriesContext) -> list[str]:
    """Statements for which the database goes through all rows of a table that grows, or sorts them to find some."""
    found = []
    for sql in [query["sql"] for query in queries]:
        if not sql.startswith(("SELECT", "DELETE", "UPDATE")) or SMALL.search(sql):
            continue
        few = " LIMIT " in sql
        with database.cursor() as cursor:
            if database.vendor == "sqlite":
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
                steps = [step for _, _, _, step in cursor.fetchall()]
                sorts = [step for step in steps if few and "TEMP B-TREE FOR ORDER BY" in step]
                # The first rows in the table's own order are found at once
                bad = sorts + [step for step in steps if SCAN.fullmatch(step) and (sorts or not few)]
            else:
                # What is small here would need no index: does one serve?
                for way in ("seqscan", "sort", "bitmapscan"):
                    cursor.execute(f"SET LOCAL enable_{way} = off")
                cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
                text = json.dumps(cursor.fetchone())
                bad = re.findall(r'"Seq Scan"', text) + (re.findall(r'"Sort"', text) if few else [])
        found += [f"{step}: {sql[:600]}" for step in bad]
    return found


def test_it_goes_through_no_table_that_grows(connection: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("keep_executions_days", "keep_pipeline_runs_days", "keep_ticks_days"):
        monkeypatch.setattr(environment, setting, 100)
    for name in ("FEW", "MOST"):  # of small tables a database may well go through all rows to delete many
        monkeypatch.setattr(pruning_module, name, 5)
    with transaction.atomic():
        fill(Size.of(3000))
        ticks = list(Tick.objects.all())
        for tick, run in zip(ticks, PipelineRun.objects.all(), strict=False):
            tick.pipeline_run = run
        Tick.objects.bulk_update(ticks, ["pipeline_run"])
        with database.cursor() as cursor:
            cursor.execute("ANALYZE")
        pruning = Pruning()
        with CaptureQueriesContext(database) as queries:
            while len(queries) < 200 and pruning.step(0):
                pass
            for kind in kinds():  # each one's first page, and one of its middle
                limit = kind.limit(pruning.now)
                if limit:
                    place: Place | None = None
                    for _ in range(2):
                        page = kind.page(limit, place, 100)
                        kind.removable(page.old)
                        place = page.end
            few = list(
                Execution.objects.filter(status__in=ENDED).order_by("created_at")[:20].values_list("pk", flat=True)
            )
            Executions().remove(few)
        assert len(queries) > 100
        assert "\n".join(wrong_plans(queries)) == ""
        transaction.set_rollback(True)
