"""What lists, searches, refusals and the dispatcher do where much was run before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import ProtectedError
from django.test import Client
from django.utils import timezone
from redis import Redis
from rest_framework.test import APIClient

from controlplane.environment import environment
from controlplane.models import Party
from controlplane.models.protection import MOST_NAMED
from executions.admin import read_only
from executions.coordinator import dispatch
from executions.coordinator.capacity import Capacity, find_capacity
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.waiting import WaitingList
from executions.models import Execution, PartyRun
from executions.states import Status
from tests.composed import documents, make_execution
from tests.simulated import add_worker, submit

LIST = "/admin/executions/execution/"


def names(admin: Client, query: str) -> list[str]:
    return [row.name for row in admin.get(f"{LIST}?{query}").context["cl"].result_list]


def test_it_refuses_to_delete_a_party_without_loading_its_runs(
    parties: dict[str, Party], api: APIClient, admin: Client, django_assert_max_num_queries: Any
) -> None:
    execution = submit()
    party = parties["alice"]
    PartyRun.objects.bulk_create(
        PartyRun(execution=execution, party=party, attempt=number, job_id=str(number)) for number in range(100)
    )
    with pytest.raises(ProtectedError) as refused, django_assert_max_num_queries(8):
        party.delete()
    assert len({row for row in refused.value.protected_objects if isinstance(row, PartyRun)}) == MOST_NAMED + 1
    with django_assert_max_num_queries(12):
        assert (
            "and more: delete or change these first."
            in api.delete(f"/api/v1/parties/{party.pk}/").json()["errors"][0]["detail"]
        )
    assert "and more" in admin.get(f"/admin/controlplane/party/{party.pk}/delete/").content.decode()


def test_a_search_finds_whole_names_in_all_and_parts_among_the_newest(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("january", "february", "march")):
        make_execution(name=name, created_at=timezone.now() + timedelta(seconds=number))
    assert names(admin, "q=ARCH") == ["march"]
    assert sorted(names(admin, "q=uary")) == ["february", "january"]
    monkeypatch.setattr(read_only, "SEARCHED", 2)
    assert names(admin, "q=uary") == ["february"]
    assert names(admin, "q=january") == ["january"]


def test_a_list_ends_and_says_how_to_see_what_is_older(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_only, "MOST_LISTED", 2)
    monkeypatch.setattr(read_only.ReadOnlyAdmin, "list_per_page", 1)
    for number, name in enumerate(("oldest", "older", "newest")):
        make_execution(name=name, created_at=timezone.now() + timedelta(days=number))
    assert "This list ends" not in admin.get(LIST).content.decode()
    assert names(admin, "p=2") == ["older"]
    assert "This list ends after 2 rows" in admin.get(f"{LIST}?p=2").content.decode()
    assert admin.get(f"{LIST}?p=3").status_code == 302
    tomorrow = timezone.now() + timedelta(hours=12)
    assert names(admin, f"created_at_to_0={tomorrow:%Y-%m-%d}&created_at_to_1={tomorrow:%H:%M:%S}") == ["oldest"]


def test_one_step_fails_so_many_and_the_next_ones_the_rest(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WaitingList, "WHOLE_SECONDS", 0)
    monkeypatch.setattr(dispatch, "MOST_GIVEN_UP", 2)
    monkeypatch.setattr(environment, "worker_grace_seconds", 0)
    for _ in range(3):
        submit()
    dispatcher = Dispatcher(connection)
    failed = Execution.objects.filter(status=Status.FAILURE)
    dispatcher.step()
    assert failed.count() == 2
    dispatcher.step()
    assert failed.count() == 3


def test_workers_that_all_have_a_run_are_only_counted(parties: dict[str, Party], connection: Redis) -> None:
    execution = Execution.objects.submit(documents())
    for name, party in parties.items():
        connection.delete(add_worker(connection, name))  # its heartbeat is gone, and the set has it still
        if name == "alice":
            PartyRun.objects.create(execution=execution, party=party, attempt=1, job_id=name)
    a_moment_ago = {name: Capacity(alive=1, ready=1) for name in parties}
    found = find_capacity(connection, parties, known=a_moment_ago)
    assert {name: (one.alive, one.busy, one.free) for name, one in found.items()} == {
        "alice": (1, 1, 0),
        "bob": (0, 0, 0),
    }
    assert find_capacity(connection, set(parties))["alice"].alive == 0


def test_the_form_of_a_new_task_does_not_read_what_hundreds_of_parties_have(
    admin: Client, parties: dict[str, Party], django_assert_max_num_queries: Any
) -> None:
    Party.objects.bulk_create(
        Party(name=f"party-{number:02}", address="127.0.0.1", port_first=1024, port_last=2048) for number in range(60)
    )
    with django_assert_max_num_queries(40):
        page = admin.get("/admin/controlplane/task/add/").content.decode()
    assert "party-17" in page
    assert "party-18" not in page
