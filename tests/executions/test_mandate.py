"""In whose name a schedule runs things: nobody runs anything in somebody else's name by changing it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from controlplane.models import Schedule, Task
from executions.coordinator import schedules
from tests.composed import admin_client, api_client, make_chain, make_pipeline, make_task, make_user, superuser

RUN, CHANGE = "add_execution", "change_schedule"
URL = "/api/v1/schedules/"


def make_schedule(**fields: Any) -> Schedule:
    return Schedule.objects.create(**{"name": "nightly", "cron": "30 2 * * *", **fields})


def fire(schedule: Schedule) -> Any:
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=timezone.now() - timedelta(seconds=5))
    schedules.step()
    return schedule.ticks.order_by("-pk").first()


def change(row: Any, user: Any) -> None:
    """As the middleware notes a user's change."""
    row.description = f"changed by {user}"
    row._history_user = user
    row.save()


@pytest.fixture
def alice(db: None) -> Any:
    return make_user("alice", RUN, CHANGE, "view_schedule", "add_schedule")


@pytest.mark.parametrize("thing", ["task", "cluster"])
def test_what_somebody_else_changed_does_not_run_in_the_owner_s_name(connection: Any, alice: Any, thing: str) -> None:
    task = make_task()
    schedule = make_schedule(task=task, owner=alice)
    assert fire(schedule).execution.submitted_by == alice
    changed = task if thing == "task" else task.cluster
    change(changed, alice)
    assert not schedules.objection(schedule), "the owner's own change is theirs to run"
    bob = make_user("bob", "change_task")
    change(changed, bob)
    reason = schedules.objection(schedule)
    assert f"{changed} was changed by bob after alice had confirmed the schedule" in reason
    assert schedules._reason_to_skip(Schedule.objects.get(pk=schedule.pk)).startswith(reason[:20])
    carol = make_user("carol", RUN)
    schedule.confirm(by=carol)
    assert (schedules.objection(schedule), schedule.owner, schedule.version) == ("", carol, 2)
    newest = schedule.history.first()
    assert (newest.owner, newest.history_change_reason) == (carol, "confirmed")


def test_a_pipeline_s_tasks_count_as_well(connection: Any, alice: Any) -> None:
    make_chain()
    schedule = make_schedule(pipeline=make_pipeline(psi="intersect"), owner=alice)
    assert not schedules.objection(schedule)
    change(Task.objects.get(name="intersect"), make_user("bob"))
    assert "task intersect was changed by bob" in schedules.objection(schedule)
    assert not fire(schedule).pipeline_run


def test_a_change_by_a_command_is_the_operator_s_own(connection: Any, alice: Any) -> None:
    task = make_task()
    schedule = make_schedule(task=task, owner=alice)
    change(task, None)
    assert not schedules.objection(schedule)


def test_a_save_that_changes_nothing_leaves_the_owner(connection: Any, alice: Any) -> None:
    schedule = make_schedule(task=make_task(), owner=alice)
    before = schedule.confirmed_at
    page = reverse("admin:controlplane_schedule_change", args=[schedule.pk])
    client = admin_client(superuser())
    form = client.get(page).context["adminform"].form
    values = {name: value for name, value in form.initial.items() if value is not None}
    assert client.post(page, values).status_code == 302
    schedule.refresh_from_db()
    assert (schedule.owner, schedule.confirmed_at, schedule.version) == (alice, before, 1)
    client.post(page, values | {"description": "at night"})
    schedule.refresh_from_db()
    assert (str(schedule.owner), schedule.version) == ("root", 2)
    assert str(schedule.history.first().owner) == "root"


def test_who_may_not_run_things_may_not_have_a_schedule_run_them(connection: Any, alice: Any) -> None:
    schedule = make_schedule(task=make_task(), owner=alice)
    bob = make_user("bob", CHANGE, "view_schedule", "add_schedule")
    page = reverse("admin:controlplane_schedule_change", args=[schedule.pk])
    client = admin_client(bob)
    assert client.post(page, {"cron": "* * * * *"}).status_code == 403
    assert client.get(reverse("admin:controlplane_schedule_add")).status_code == 403
    api = api_client(bob)
    for answer in (
        api.patch(f"{URL}{schedule.pk}/", {"cron": "* * * * *"}, format="json"),
        api.post(f"{URL}{schedule.pk}/confirm/"),
        api.post(URL, {"name": "mine", "cron": "* * * * *", "task": schedule.target.name}, format="json"),
    ):
        assert answer.status_code == 403
        assert "you may not run anything" in str(answer.data)
    schedule.refresh_from_db()
    assert (schedule.owner, schedule.version) == (alice, 1)


def test_it_is_confirmed_on_its_page_and_by_the_api(connection: Any, alice: Any) -> None:
    task = make_task()
    schedule = make_schedule(task=task, owner=make_user("gone"))
    answer = api_client(alice).post(f"{URL}{schedule.pk}/confirm/")
    assert (answer.status_code, answer.data["owner"]) == (200, "alice")
    client = admin_client(superuser())
    change(task, make_user("bob"))
    url = reverse("admin:controlplane_schedule_confirm", args=[schedule.pk])
    asked = client.get(url).content.decode()
    assert "was changed by bob after alice had confirmed" in asked
    assert client.post(url).status_code == 302
    schedule.refresh_from_db()
    assert str(schedule.owner) == "root"
    assert not schedules.objection(schedule)
