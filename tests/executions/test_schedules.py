"""Schedules: what cron expressions mean, and that each time is fired once, whoever looks and whenever."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone as clock

from controlplane.models import AuditEntry, Dataset, Schedule
from controlplane.pipelines.cron import Cron
from executions.coordinator import schedules
from executions.models import Execution, PipelineRun, Tick
from executions.states import Status
from tests.composed import make_chain, make_pipeline, make_task, make_user
from tests.simulated import end_node, go_on_with_pipelines_at_once, settle_pipelines

pytestmark = pytest.mark.django_db


def make_schedule(**fields: Any) -> Schedule:
    schedule = Schedule(**{"name": "nightly", "cron": "30 2 * * *", **fields})
    schedule.full_clean()
    schedule.save()
    return schedule


def make_due(schedule: Schedule, ago: timedelta = timedelta(seconds=5)) -> datetime:
    due = clock.now().replace(microsecond=0) - ago
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=due)
    return due


# What an expression means


def times(expression: str, zone: str, start: str, number: int = 3) -> list[str]:
    moment = datetime.fromisoformat(start).replace(tzinfo=timezone.utc)
    return [f"{found:%m-%d %H:%M %z}" for found in Cron(expression, zone).times(moment, number)]


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        ("30 2 * * MON-FRI", "UTC", "2026-11-27", ["11-27 02:30 +0000", "11-30 02:30 +0000", "12-01 02:30 +0000"]),
        # clocks go forward from 2 to 3: it comes right after
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00",
         ["03-29 03:00 +0200", "03-30 02:30 +0200", "03-31 02:30 +0200"]),
        # clocks go back from 3 to 2: once, though half past two comes twice; but what is hourly is hourly
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00",
         ["10-25 02:30 +0200", "10-26 02:30 +0100", "10-27 02:30 +0100"]),
        ("30 * * * *", "Europe/Berlin", "2026-10-25T00:00",
         ["10-25 02:30 +0200", "10-25 02:30 +0100", "10-25 03:30 +0100"]),
    ],
)  # fmt: skip
def test_it_comes_when_cron_would_have_it(expression: str, zone: str, start: str, expected: list[str]) -> None:
    assert times(expression, zone, start) == expected


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("cron", "30 2 * *", "Give five fields (minute, hour, day of month, month, day of week), such as "),
        ("cron", "* * * * * *", "Give five fields"),
        ("cron", "@daily", "Give five fields"),
        ("cron", "60 2 * * *", "The minute is wrong; it may be 0 to 59."),
        ("cron", "0 0 30 2 *", "The day of month is wrong; it may be 1 to 31"),
        ("cron", "0 0 * * MOON", "The day of week is wrong; it may be 0 (Sunday) to 6"),
        ("cron", "*/0 * * * *", "The minute is wrong"),
        ("cron", "\u0663 2 * * *", "The minute is wrong"),
        ("cron", "", "This field cannot be blank."),
        ("time_zone", "Europe/Berlino", "There is no such time zone; name one such as Europe/Berlin, or UTC."),
        ("task", None, "Choose either a task or a pipeline."),
    ],
)  # fmt: skip
def test_it_says_what_is_wrong_at_the_field(field: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_schedule(**{"task": make_task(), field: value})
    name = "__all__" if field == "task" else field
    assert any(words in message for message in caught.value.message_dict[name])


def test_it_runs_one_thing() -> None:
    task = make_task("intersect")
    with pytest.raises(ValidationError, match="either a task or a pipeline"):
        make_schedule(task=task, pipeline=make_pipeline(psi="intersect"))


def test_it_says_when_it_comes() -> None:
    schedule = make_schedule(task=make_task(), time_zone="Europe/Berlin")
    assert schedule.in_words == "At 02:30 every day, Europe/Berlin time"
    following = schedule.next_times(3)
    assert following[0] == schedule.next_run_at
    assert {f"{moment:%H:%M}" for moment in following} == {"02:30"}
    schedule.enabled = False
    schedule.save()
    assert schedule.next_times(3) == []


# Firing


def test_it_submits_what_is_due_once_in_its_owners_name(connection: Any) -> None:
    task = make_task(priority=4)
    owner = make_user("owner", "add_execution")
    schedule = make_schedule(task=task, owner=owner)
    assert not schedules.step()
    due = make_due(schedule)
    settle_pipelines()
    execution = Execution.objects.get()
    assert (execution.task, execution.priority, execution.submitted_by) == (task, 4, owner)
    tick = Tick.objects.get()
    assert (tick.due_at, tick.execution, tick.skipped) == (due, execution, "")
    entry = AuditEntry.objects.get(action="start")
    assert (entry.actor, entry.subject, entry.details) == ("owner", "schedule nightly", f"execution {execution.pk}")
    schedule.refresh_from_db()
    assert schedule.next_run_at
    assert schedule.next_run_at > clock.now()
    assert (schedule.version, schedule.history.count()) == (1, 1)


def test_times_that_were_missed_are_made_up_for_once(connection: Any) -> None:
    schedule = make_schedule(task=make_task(), cron="* * * * *")
    make_due(schedule, timedelta(days=2))
    settle_pipelines()
    assert Execution.objects.count() == Tick.objects.count() == 1


def test_it_runs_a_pipeline_and_skips_while_that_one_runs(connection: Any) -> None:
    make_chain()
    schedule = make_schedule(pipeline=make_pipeline(psi="intersect"))
    make_due(schedule, timedelta(hours=2))
    settle_pipelines()
    run = PipelineRun.objects.get()
    make_due(schedule, timedelta(hours=1))
    settle_pipelines()
    skipped = schedule.ticks.first()
    assert skipped
    assert (skipped.started, skipped.skipped.startswith(f"{run}, which it started at ")) == (None, True)
    assert skipped.skipped.endswith("is still RUNNING")
    make_due(schedule, timedelta(minutes=30))
    settle_pipelines()
    assert PipelineRun.objects.count() == 1, "one that was skipped is not the last run"
    end_node(run, "psi")
    make_due(schedule)
    settle_pipelines()
    assert PipelineRun.objects.count() == 2
    assert [bool(tick.skipped) for tick in schedule.ticks.all()] == [False, True, True, False]


@pytest.mark.parametrize("change", ["permission", "active"])
def test_it_does_nothing_for_an_owner_who_may_not_run_anything_any_more(connection: Any, change: str) -> None:
    owner = make_user("owner", *(() if change == "permission" else ("add_execution",)))
    owner.is_active = change != "active"
    owner.save()
    make_due(make_schedule(task=make_task(), owner=owner))
    settle_pipelines()
    assert not Execution.objects.exists()
    assert "owner, its owner, may not run anything any more" in Tick.objects.get().skipped


def test_it_says_why_what_is_not_valid_any_more_was_not_started(connection: Any) -> None:
    schedule = make_schedule(task=make_task())
    Dataset.objects.filter(name="clients").update(columns={"x": "str"})
    make_due(schedule)
    settle_pipelines()
    assert not Execution.objects.exists()
    assert "bob's dataset clients has no column 'user_id'" in Tick.objects.get().skipped
    schedule.refresh_from_db()
    assert schedule.next_run_at
    assert schedule.next_run_at > clock.now()


def test_one_that_is_switched_off_is_never_due(connection: Any) -> None:
    schedule = make_schedule(task=make_task())
    schedule.enabled = False
    schedule.save()
    assert not schedules.step()
    schedule.enabled = True
    schedule.save()
    assert schedule.next_run_at


def test_an_edit_brings_no_time_back_that_was_fired_meanwhile(connection: Any) -> None:
    schedule = make_schedule(task=make_task())
    make_due(schedule)
    read = Schedule.objects.get()
    settle_pipelines()
    read.description = "edited by somebody who had read it before"
    read.save()
    assert read.next_run_at
    assert read.next_run_at > clock.now()
    Execution.objects.update(status=Status.SUCCESS)
    settle_pipelines()
    assert Execution.objects.count() == 1
    read.cron = "45 3 * * *"
    read.save()
    assert read.next_run_at
    assert f"{read.next_run_at:%H:%M}" == "03:45"


def test_a_time_that_was_fired_is_not_fired_again_when_a_clock_was_put_back(connection: Any) -> None:
    schedule = make_schedule(task=make_task())
    due = make_due(schedule)
    settle_pipelines()
    Execution.objects.update(status=Status.SUCCESS)
    Schedule.objects.update(next_run_at=due)
    settle_pipelines()
    assert Execution.objects.count() == 1


def test_a_coordinator_that_is_killed_while_it_fires_leaves_it_due(
    connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_due(make_schedule(task=make_task()))
    with monkeypatch.context() as patched:

        def die(*_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

        patched.setattr(Tick, "save", die)
        with pytest.raises(KeyboardInterrupt):
            schedules.step()
    assert not Execution.objects.exists()
    settle_pipelines()
    assert Execution.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_coordinators_fire_it_once(connection: Any) -> None:
    make_due(make_schedule(task=make_task()))

    go_on_with_pipelines_at_once(3)
    assert Execution.objects.count() == Tick.objects.count() == 1
