"""The page of a party: its workers, queue and links; pausing it, and what that stops."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from redis import Redis

from controlplane.models import AuditEntry, Party, Pause
from executions.coordinator.capacity import find_capacity, reason_to_wait
from executions.models import PartyCheck, PartyRun, Preflight
from executions.states import RunStatus
from tests.composed import admin_client, make_execution, make_parties, make_user
from workers.contract.resources import CPUS, DISK_FREE, DISK_TOTAL, LOAD, MEMORY_FREE, MEMORY_TOTAL

pytestmark = pytest.mark.django_db


def page_of(party: Party) -> str:
    return f"/admin/controlplane/party/{party.pk}/change/"


def worker(connection: Redis, party: str, **fields: Any) -> None:
    key = f"rq:worker:{party}@host-1"
    connection.sadd(f"rq:workers:{party}", key)
    told: dict[Any, Any] = {"state": "idle", "process": "ready", MEMORY_FREE: 3 * 2**30, MEMORY_TOTAL: 4 * 2**30}
    told |= {DISK_FREE: 2**30, DISK_TOTAL: 2**31, LOAD: 0.5, CPUS: 2}
    connection.hset(key, mapping=told | fields)
    connection.expire(key, 60)


def test_it_shows_workers_queue_versions_and_links(admin: Client, connection: Redis) -> None:
    execution = make_execution()
    alice, bob = (Party.objects.get(name=name) for name in ("alice", "bob"))
    for name, error in (("1", "NetworkError"), ("2", "")):
        PartyRun.objects.create(
            execution=execution, party=alice, attempt=int(name), job_id=name, error_type=error,
            status=RunStatus.FAILURE, released_at=timezone.now(),
        )  # fmt: skip
    checks = Preflight.objects.create(execution=execution)
    facts = {"versions": {"secretflow": "1.14"}, "round_trips": {"bob": 0.0021}}
    PartyCheck.objects.create(preflight=checks, party=alice, answered_at=timezone.now(), facts=facts)
    PartyCheck.objects.create(
        preflight=checks, party=bob, answered_at=timezone.now(), facts={"round_trips": {"alice": 0.003}}
    )
    worker(connection, "alice", state="busy", current_job="alice-x-1")
    state = admin.get(page_of(alice)).context["state"]
    [found] = state["workers"]
    assert (found.name, found.state, found.job) == ("alice@host-1", "computing", "alice-x-1")
    assert (found.memory, found.load) == ("3.0 of 4.0 GiB free", "0.50 on 2 CPUs")
    assert (state["queued"], state["versions"]) == ("1", [("secretflow", "1.14")])
    [peer] = state["peers"]
    assert (peer.name, peer.there, peer.back, peer.runs, peer.rate) == ("bob", "2.1 ms", "3.0 ms", 2, "50.0%")


@pytest.mark.parametrize("value", ["x" * 5000, "nan", "-1", "\udcff".encode("utf-8", "surrogateescape"), ""])
def test_whatever_a_worker_wrote_the_page_opens(admin: Client, connection: Redis, value: object) -> None:
    alice = make_parties()["alice"]
    worker(connection, "alice", **dict.fromkeys(("state", "process", "current_job", MEMORY_FREE, LOAD, CPUS), value))
    assert admin.get(page_of(alice)).status_code == 200
    connection.delete("rq:workers:alice")
    connection.set("rq:workers:alice", "no set")
    assert admin.get(page_of(alice)).status_code == 200


def test_a_paused_party_gets_nothing_new_and_says_so(admin: Client, connection: Redis) -> None:
    alice = make_parties()["alice"]
    worker(connection, "alice")
    url = f"/admin/controlplane/party/{alice.pk}/pause/"
    assert "Pause alice?" in admin.get(url).content.decode()
    assert not Pause.objects.exists(), "looking at the page does nothing"
    admin.post(url, {"why": "new disk"})
    capacity = find_capacity(connection, ["alice"])
    assert capacity["alice"].free == 0
    assert reason_to_wait(["alice"], capacity) == "alice is paused: new disk"
    page = admin.get(page_of(alice)).content.decode()
    assert "<b>Paused</b>" in page
    assert "Nothing runs there any more." in page
    assert AuditEntry.objects.filter(action="pause", subject="party alice", details="new disk").exists()
    alice.refresh_from_db()
    assert alice.version == 1
    assert admin.get(url).status_code in (302, 403), "it is paused already"
    resume = f"/admin/controlplane/party/{alice.pk}/resume/"
    assert admin.get(resume).status_code == 200
    admin.post(resume)
    assert find_capacity(connection, ["alice"])["alice"].paused == ""
    assert AuditEntry.objects.filter(action="resume", subject="party alice").exists()


def test_only_who_may_change_a_party_pauses_it(connection: Redis) -> None:
    alice = make_parties()["alice"]
    viewer = admin_client(make_user("viewer", "view_party"))
    assert viewer.post(f"/admin/controlplane/party/{alice.pk}/pause/").status_code == 403
    assert not Pause.objects.exists()


def test_a_form_that_is_saved_leaves_a_pause_as_it_is(admin: Client, connection: Redis) -> None:
    alice = make_parties()["alice"]
    Pause.objects.create(party=alice, why="new disk")
    alice.description = "changed"
    alice.save()
    assert find_capacity(connection, ["alice"])["alice"].paused == "alice is paused: new disk"
