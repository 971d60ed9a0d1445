"""Tasks that others make invalid: found in turn, counted on the overview, listed, forgotten once they are mended."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from controlplane.models import Dataset, SPUConfig, Task
from executions.coordinator.validity import Validity
from executions.models import Condition
from tests.composed import admin_client, copy_of_task, make_execution, make_task, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("connection")]

SAID = "1 task is not valid any more."


def begin_the_first_run() -> None:
    """Until then the overview shows how to set it up."""
    make_execution(Task.objects.get(name="first"))


def look(watch: Validity | None = None) -> list[int]:
    (watch or Validity()).step()
    return Condition.invalid_tasks()


def test_a_task_is_found_and_forgotten(admin: Client) -> None:
    first = make_task("first")
    other = copy_of_task(first, "other", outputs={"alice": "x", "bob": "x"})
    assert look() == []
    assert not Condition.objects.exists(), "what was never wrong is not noted"
    Task.objects.filter(pk=other.pk).update(document=other.document | {"data_sources": {"alice": "gone"}})
    assert look() == [other.pk]
    begin_the_first_run()
    assert SAID in admin.get("/admin/").content.decode()
    page = admin.get("/admin/controlplane/task/?validity=no").content.decode()
    assert ">other<" in page
    assert ">first<" not in page
    Task.objects.filter(pk=other.pk).update(document=other.document)
    assert look() == []
    assert SAID not in admin.get("/admin/").content.decode()
    Task.objects.filter(pk=other.pk).update(document={})
    look()
    Task.objects.filter(pk=other.pk).delete()
    assert look() == []
    assert not Condition.objects.filter(key=str(other.pk)).exists()


def test_what_it_names_may_have_changed(admin: Client) -> None:
    task = make_task()
    watch = Validity()
    look(watch)
    SPUConfig.objects.update(document={"runtime_config": {"protocol": "nothing"}})
    assert look(watch) == [task.pk]
    SPUConfig.objects.update(document={})
    Dataset.objects.filter(name="clients").update(name="renamed")
    watch._read_at -= Validity.READ_AGAIN + 1
    assert look(watch) == [task.pk]


def test_all_tasks_come_in_turn_and_no_step_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_task("first")
    for number in range(5):
        copy_of_task(first, f"task {number}", outputs={"alice": f"x{number}", "bob": f"x{number}"})
    seen: list[str] = []

    def see(self: Validity, task: Task) -> bool:
        seen.append(task.name)
        return True

    monkeypatch.setattr(Validity, "_is_valid", see)
    monkeypatch.setattr(Validity, "AT_ONCE", 4)
    watch = Validity()
    for _ in range(3):
        watch.step()
    names = list(Task.objects.order_by("pk").values_list("name", flat=True))
    assert seen == [*names, *names[:4]]
    seen.clear()
    monkeypatch.setattr(Validity, "STEP_SECONDS", 0.0)
    watch.step()
    assert len(seen) == 1


def test_it_takes_the_same_queries_for_many_tasks(django_assert_num_queries: Any) -> None:
    first = make_task("first")
    look()
    watch = Validity()
    with django_assert_num_queries(6) as few:
        watch.step()
    for number in range(10):
        copy_of_task(first, f"task {number}", outputs={"alice": f"x{number}", "bob": f"x{number}"})
    watch = Validity()
    with django_assert_num_queries(len(few)):
        watch.step()


def test_tasks_of_others_are_not_counted() -> None:
    task = make_task()
    Task.objects.update(document={})
    assert look() == [task.pk]
    stranger = admin_client(make_user("stranger", "view_task", "view_execution", parties=()))
    assert "not valid any more" not in stranger.get("/admin/").content.decode()
