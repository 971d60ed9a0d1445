"""The timeline of an execution: waits and attempts in their order, and what each moment of each party went into."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from controlplane.models import Party, Schedule
from executions.admin.execution_page import time_left
from executions.admin.timeline import timeline
from executions.models import Execution, ExecutionEvent, PartyRun, StateChange, Tick
from executions.results.phases import stages
from executions.states import RunStatus, Status
from tests.composed import make_execution, make_task, page_of

pytestmark = pytest.mark.django_db

START = timezone.now().replace(microsecond=0) - timedelta(minutes=5)
STAGES = (
    ("task_started", 1),
    ("sf_init", 2),
    ("sf_cluster_ready", 3),
    ("spu_init", 3.2),
    ("task_execution", 4),
    ("cleanup", 9),
)


def at(seconds: float) -> Any:
    return START + timedelta(seconds=seconds)


def run(execution: Execution, party: str, attempt: int = 1, begun: float = 0, off: float = 0, **fields: Any) -> None:
    """A party's run with the events of its stages; ``off``: how many seconds its clock is ahead."""
    PartyRun.objects.create(
        execution=execution,
        party=Party.objects.get(name=party),
        attempt=attempt,
        job_id=f"{party}-{attempt}",
        dispatched_at=at(begun),
        **{"status": RunStatus.SUCCESS, "released_at": at(begun + 10)} | fields,
    )
    for sequence, (stage, second) in enumerate(STAGES, 1):
        ExecutionEvent.objects.create(
            execution=execution,
            party=party,
            attempt=attempt,
            sequence=sequence,
            status="RUNNING",
            stage=stage,
            timestamp=at(begun + second + off),
            received_at=at(begun + second + 0.03),
        )


def changed(execution: Execution, *changes: tuple[str, str, float, str]) -> None:
    execution.changes.all().delete()
    for before, after, second, why in changes:
        StateChange.objects.create(execution=execution, from_status=before, to_status=after, at=at(second), why=why)


def drawn(execution: Execution) -> list[Any]:
    runs = list(execution.runs.select_related("party").order_by("attempt", "pk"))
    return timeline(execution, runs, list(execution.changes.order_by("at")), stages(execution), [])


def test_each_party_has_a_lane_of_what_its_time_went_into() -> None:
    execution = make_execution(status=Status.SUCCESS, attempt=1, dispatched_at=at(0), ended_at=at(9))
    changed(
        execution, ("", "QUEUED", -17, "submitted"), ("QUEUED", "DISPATCHED", 0, ""), ("DISPATCHED", "SUCCESS", 9, "")
    )
    run(execution, "alice")
    run(execution, "bob", off=3600)
    wait, attempt = drawn(execution)
    assert (wait.title, wait.took) == ("Queued", "17.00 s")
    assert (attempt.title, attempt.took) == ("Run", "10.00 s")
    alice, bob = attempt.lanes
    assert [(s.phase, round(s.start), round(s.width)) for s in alice.segments] == [
        ("starting", 0, 20),
        ("links", 20, 10),
        ("devices", 30, 10),
        ("computing", 40, 50),
        ("cleanup", 90, 10),
    ]
    assert alice.segments[3].text == "Computing: 5.00 s"
    assert [round(s.start) for s in bob.segments] == [0, 20, 30, 40, 90], "its clock is an hour ahead"


def test_attempts_stand_beside_one_another_with_why_it_waited_between() -> None:
    execution = make_execution(status=Status.FAILURE, attempt=2, dispatched_at=at(30), ended_at=at(39))
    changed(
        execution,
        ("", "QUEUED", -1, "submitted"),
        ("QUEUED", "DISPATCHED", 0, ""),
        ("DISPATCHED", "RETRY", 10, "alice: the port is taken"),
        ("RETRY", "QUEUED", 20, ""),
        ("QUEUED", "DISPATCHED", 30, ""),
        ("DISPATCHED", "FAILURE", 39, ""),
    )
    run(execution, "alice", status=RunStatus.FAILURE)
    run(execution, "alice", attempt=2, begun=30, status=RunStatus.STOPPED)
    assert [(part.title, part.took, part.waited_for) for part in drawn(execution)] == [
        ("Queued", "1.00 s", "queued"),
        ("Attempt 1", "10.00 s", ""),
        ("Retry", "10.00 s", "alice: the port is taken"),
        ("Queued", "10.00 s", "queued"),
        ("Attempt 2", "10.00 s", ""),
    ]
    assert [lane.end for part in drawn(execution) for lane in part.lanes] == ["failure", "stopped"]


def test_times_of_a_party_that_make_no_sense_break_nothing(admin: Client) -> None:
    execution = make_execution(status=Status.RUNNING, attempt=1, dispatched_at=at(0), started_at=at(1))
    run(execution, "alice", status=RunStatus.RUNNING, released_at=None)
    for event in ExecutionEvent.objects.all():
        event.timestamp = at(-1e6 * event.sequence)
        event.save()
    [attempt] = [part for part in drawn(execution) if part.lanes]
    assert all(0 <= s.start <= 100 and 0 <= s.start + s.width <= 100.01 for s in attempt.lanes[0].segments)
    assert admin.get(page_of(execution)).status_code == 200


def test_the_time_left_goes_by_the_tasks_latest_runs() -> None:
    task = make_task()
    for took in (10, 20, 60):
        make_execution(
            task=task, status=Status.SUCCESS, attempt=1, dispatched_at=at(0), started_at=at(0), ended_at=at(took)
        )
    make_execution(task=task, status=Status.FAILURE, attempt=1, dispatched_at=at(0), started_at=at(0), ended_at=at(1))
    now = timezone.now()
    execution = make_execution(task=task, status=Status.RUNNING, attempt=1, dispatched_at=now, started_at=now)
    assert time_left(execution) == "about 20 s left (the median of 3 runs is 20.00 s)"
    execution.started_at = execution.dispatched_at = now - timedelta(seconds=90)
    assert time_left(execution) == "longer than usual: the median of 3 runs is 20.00 s"
    execution.task_id, execution.progress = None, 0.75
    assert time_left(execution) == "about 30 s left, by its progress"
    execution.progress = 0
    assert time_left(execution) == ""


def test_the_page_says_what_it_was_made_from_what_it_made_and_what_began_it(admin: Client) -> None:
    task = make_task()
    maker = make_execution(task=task, status=Status.SUCCESS)
    schedule = Schedule.objects.create(name="every night", task=task, cron="0 1 * * *")
    execution = make_execution(task=task, status=Status.SUCCESS)
    Tick.objects.create(schedule=schedule, due_at=at(0), execution=execution)
    source = Party.objects.get(name="alice").datasets.get(
        name=execution.documents["task_config"]["data_sources"]["alice"]
    )
    type(source).objects.filter(pk=source.pk).update(produced_by=maker.pk)
    page = admin.get(page_of(execution)).content.decode()
    assert f"/admin/controlplane/schedule/{schedule.pk}/change/" in page
    assert "The task is the same today." in page
    made_from = page[page.index("Made from") :]
    assert f"/admin/controlplane/dataset/{source.pk}/change/" in made_from
    assert f"/admin/executions/execution/{maker.pk}/change/" in made_from
    task.document = task.document | {"outputs": {"alice": "renamed", "bob": "renamed"}}
    task.save()
    page = admin.get(page_of(execution)).content.decode()
    assert "The task has changed since: 2 differences" in page
    assert "task_config.outputs.alice" in page
