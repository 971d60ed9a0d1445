"""The audit trail: what leaves an entry, and that a change to the trail is found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import connection as database
from django.test import Client
from django.utils import timezone
from redis import Redis
from rest_framework.test import APIClient

from controlplane.audit import record as recording
from controlplane.audit.chain import AT_ONCE, BEGINNING, seal, verify
from controlplane.audit.record import digest_of, record
from controlplane.environment import environment
from controlplane.models import AuditEntry, Party, Task, TokenTerms
from executions.coordinator import reports
from executions.coordinator.approvals import note_decision
from executions.models import Approval, ApprovalState, Execution
from tests.composed import admin_client, api_client, documents, make_task, make_user, superuser

pytestmark = pytest.mark.django_db


def new_entries(since: int) -> list[tuple[str, str, str]]:
    rows = AuditEntry.objects.filter(pk__gt=since).order_by("pk")
    return [(entry.actor, entry.action, entry.subject) for entry in rows]


def last() -> int:
    return AuditEntry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


@pytest.fixture(autouse=True)
def fresh_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording._Refusals, "began", -1000.0)
    monkeypatch.setattr(recording._Refusals, "count", 0)


# --- what leaves an entry


def test_what_a_party_publishes(parties: dict[str, Party], connection: Redis) -> None:
    since, columns = last(), {"people": {"id": "int"}, "places": {"id": "str"}}

    def publish(at: float) -> None:
        datasets = {name: {"columns": told} for name, told in columns.items()}
        content = {"publication": str(uuid4()), "told_at": time.time() + at, "datasets": datasets}
        reports.apply("alice", "datasets", json.dumps(content).encode())

    publish(0)
    publish(1)  # says nothing new
    assert new_entries(since) == [("party alice", "register", "datasets of alice")]
    entry = AuditEntry.objects.get(pk=since + 1)
    assert (entry.details, entry.digest) == ("people, places", digest_of(columns))


def test_what_people_at_a_party_decide_when_nothing_waits_for_it(execution: Execution) -> None:
    since, alice = last(), Party.objects.get(name="alice")
    note_decision("alice", "b" * 64, [], approved=True, by="ann", reason="of no request")
    Approval.objects.create(execution=execution, party=alice, digest="a" * 64, state=ApprovalState.REFUSED)
    note_decision("alice", "a" * 64, [execution.pk], approved=True, by="ann", reason="after all")
    assert new_entries(since) == [("ann at alice", "approve", "request aaaaaaaa of alice")]


def test_what_is_registered_over_the_api(parties: dict[str, Party], api: APIClient) -> None:
    since = last()
    alice = parties["alice"]
    api.patch(f"/api/v1/parties/{alice.pk}/", {"description": "a bank"}, format="json", REMOTE_ADDR="192.0.2.7")
    body = {"name": "carol", "address": "c.example", "port_first": 2000, "port_last": 2100}
    made = api.post("/api/v1/parties/", body, format="json").json()
    api.delete(f"/api/v1/parties/{made['id']}/")
    assert new_entries(since) == [
        ("root", "change", "party alice"), ("root", "create", "party carol"), ("root", "delete", "party carol"),
    ]  # fmt: skip
    first = AuditEntry.objects.get(pk=since + 1)
    assert first.address == "192.0.2.7"
    alice.refresh_from_db()
    content = {f.attname: f.value_from_object(alice) for f in Party._meta.concrete_fields}
    assert first.digest == digest_of(content)


def test_a_request_that_changes_nothing_leaves_nothing(parties: dict[str, Party], api: APIClient) -> None:
    since, alice = last(), parties["alice"]
    api.patch(f"/api/v1/parties/{alice.pk}/", {"description": alice.description}, format="json")
    api.patch(f"/api/v1/parties/{alice.pk}/", {"port_first": 1}, format="json")
    api.get("/api/v1/parties/")
    assert new_entries(since) == []


def test_what_is_run_and_stopped(api: APIClient, connection: Redis) -> None:
    task = make_task()
    since = last()
    made = api.post("/api/v1/executions/", {"task": task.name}, format="json").json()
    api.post(f"/api/v1/executions/{made['id']}/cancel/")
    api.post("/api/v1/preflights/", documents(), format="json")
    found = new_entries(since)
    assert found[:2] == [
        ("root", "submit", f"execution {made['id']}"), ("root", "cancelled", f"execution {made['id']}"),
    ]  # fmt: skip
    assert found[2][:2] == ("root", "ask for checks")
    assert AuditEntry.objects.get(pk=since + 1).digest == digest_of(Execution.objects.get().documents)


def test_what_a_schedule_submits_is_in_the_name_of_its_user(connection: Redis) -> None:
    since = last()
    task = make_task()
    ann = make_user("ann")
    Execution.objects.submit(task.documents(), task=task, by=ann)
    assert new_entries(since)[-1][:2] == ("ann", "submit")


def test_users_and_what_they_may_do() -> None:
    since = last()
    client = admin_client(superuser())
    since = last()
    ann = User.objects.create_user("ann")
    ann.groups.add(Group.objects.get(name="Viewer"))
    client.post(f"/admin/auth/user/{ann.pk}/delete/", {"post": "yes"})
    said = new_entries(since)
    assert [(action, subject) for _, action, subject in said if subject.startswith("user ann")] == [
        ("create", "user ann"), ("change", "user ann"), ("delete", "user ann"),
    ]  # fmt: skip
    assert said[-1][0] == "root"


def test_webhooks_and_their_keys(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "webhooks_to_private", True)
    since = last()
    made = api.post("/api/v1/webhooks/", {"name": "reports", "url": "https://127.0.0.1/a"}, "json").json()
    address = f"/api/v1/webhooks/{made['id']}/"
    assert api.patch(address, {"enabled": False}, "json").status_code == 200
    assert api.post(f"{address}rotate-secret/").status_code == 200
    assert api.delete(address).status_code == 204
    said = [(who, action) for who, action, subject in new_entries(since) if subject.startswith("webhook reports")]
    assert said == [("root", "create"), ("root", "change"), ("root", "make key"), ("root", "delete")]
    trail = str(list(AuditEntry.objects.filter(pk__gt=since).values()))
    assert made["secret"] not in trail


def test_tokens_are_noted_and_none_is_shown(parties: dict[str, Party]) -> None:
    ann = make_user("ann")
    since = last()
    token, text = TokenTerms.make_token(ann, "nightly", ["read"])
    token.delete()
    assert [(action, subject) for _, action, subject in new_entries(since)] == [
        ("make token", "token nightly of ann"), ("end token", "token of ann"),
    ]  # fmt: skip
    for entry in AuditEntry.objects.filter(pk__gt=since):
        assert text[:10] not in f"{entry.actor}{entry.subject}{entry.details}"
        assert entry.actor != "ann", "it was made and ended for ann, by a program"


def test_a_token_is_told_from_its_user(parties: dict[str, Party]) -> None:
    _, text = TokenTerms.make_token(superuser(), "nightly")
    client, since = APIClient(), last()
    client.credentials(HTTP_AUTHORIZATION=f"Token {text}")
    client.patch(f"/api/v1/parties/{parties['bob'].pk}/", {"description": "x"}, format="json")
    assert new_entries(since) == [("root by token nightly", "change", "party bob")]


def test_sign_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.create_superuser("ann", password="right")
    client, since = Client(), last()
    client.post("/admin/login/", {"username": "ann", "password": "wrong"})
    client.post("/admin/login/", {"username": "ann", "password": "right"})
    client.post("/admin/logout/")
    assert new_entries(since) == [
        ("nobody", "refused", "sign-in as ann"), ("ann", "sign in", "user ann"), ("ann", "sign out", "user ann"),
    ]  # fmt: skip


def test_refusals_and_not_too_many(connection: Redis) -> None:
    client, since = api_client(make_user("ann", "view_execution")), last()
    assert client.post("/api/v1/executions/", documents(), format="json").status_code == 403
    assert new_entries(since) == [("ann", "refused", "POST /api/v1/executions/")]
    for _ in range(100):
        client.post("/api/v1/executions/", documents(), format="json")
    assert len(new_entries(since)) == recording._Refusals.MOST_A_MINUTE
    recording._Refusals.began = -1000.0
    client.post("/api/v1/executions/", documents(), format="json")
    assert AuditEntry.objects.get(details__contains="more").details == "41 more requests in a minute"


def test_a_write_that_fails_leaves_no_entry(parties: dict[str, Party], monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry is part of the same transaction; and what cannot be noted does not happen."""
    task = make_task()
    since, before = last(), task.description

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("the trail is full")

    monkeypatch.setattr(AuditEntry.objects, "create", full)
    task.description = "another"
    with pytest.raises(RuntimeError):
        task.save()
    assert Task.objects.get().description == before
    assert new_entries(since) == []


# --- the chain


def fill(count: int) -> None:
    for number in range(count):
        record("change", f"thing {number}", content={"n": number}, actor="ann")
    while seal():
        pass


def test_what_is_as_it_was_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify().newest == BEGINNING or not verify().problems
    fill(10)
    found = verify()
    assert (found.problems, found.sealed) == ([], AuditEntry.objects.count())
    call_command("verify_audit", known=found.newest)
    assert found.newest in capsys.readouterr().out
    fill(3)
    call_command("verify_audit", known=found.newest)
    assert not seal()


CHANGES: dict[str, Callable[[AuditEntry], Any]] = {
    **{
        field: lambda entry, field=field: AuditEntry.objects.filter(pk=entry.pk).update(**{field: "x"})
        for field in ("actor", "address", "action", "subject", "digest", "details", "hash")
    },
    "at": lambda entry: AuditEntry.objects.filter(pk=entry.pk).update(at=entry.at + timedelta(microseconds=1)),
    "removed": lambda entry: entry.delete(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_in_the_middle_is_found(change: Callable[[AuditEntry], Any]) -> None:
    fill(9)
    entry = AuditEntry.objects.order_by("pk")[AuditEntry.objects.count() - 5]
    position = entry.position or 0
    change(entry)
    problems = verify().problems
    assert problems
    assert f"{position:,}" in problems[0] or f"{position + 1:,}" in problems[0]
    with pytest.raises(CommandError, match=r"was changed|are missing"):
        call_command("verify_audit")


def test_what_was_put_in_or_exchanged_is_found() -> None:
    fill(6)
    first, second = AuditEntry.objects.order_by("-pk")[2:4]
    AuditEntry.objects.filter(pk=first.pk).update(subject=second.subject, digest=second.digest)
    AuditEntry.objects.filter(pk=second.pk).update(subject=first.subject, digest=first.digest)
    assert verify().problems


def test_entries_that_were_cut_off_at_the_end_are_found_by_the_hash_that_was_kept() -> None:
    fill(5)
    kept = verify().newest
    AuditEntry.objects.order_by("-pk")[0].delete()
    assert not verify().problems, "nothing in the trail itself shows it"
    with pytest.raises(CommandError, match="removed from the end"):
        call_command("verify_audit", known=kept)


def test_a_trail_that_nobody_seals_is_told() -> None:
    fill(1)
    record("change", "thing", actor="ann")
    AuditEntry.objects.filter(position=None).update(at=timezone.now() - timedelta(minutes=11))
    assert verify().problems == ["1 entries are not sealed after ten minutes: is `manage.py coordinate` running?"]


@pytest.mark.django_db(transaction=True)
def test_many_may_seal_at_once() -> None:
    before = AuditEntry.objects.count()
    AuditEntry.objects.bulk_create(AuditEntry(actor="ann", action="a", subject=str(n)) for n in range(3 * AT_ONCE))

    def work(_: int) -> None:
        try:
            while seal():
                pass
        finally:
            database.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    found = verify()
    assert (found.problems, found.sealed) == ([], before + 3 * AT_ONCE)


def test_nobody_changes_it_in_the_admin_and_few_read_it() -> None:
    fill(3)
    entry = AuditEntry.objects.first()
    assert entry
    url = f"/admin/controlplane/auditentry/{entry.pk}/"
    administrator = admin_client(superuser())
    page = administrator.get("/admin/controlplane/auditentry/").content.decode()
    assert "thing 2" in page
    assert administrator.get(f"{url}change/").status_code == 200
    for address, data in ((f"{url}delete/", {"post": "yes"}), (f"{url}change/", {"actor": "x"})):
        assert administrator.post(address, data).status_code == 403
    assert administrator.get("/admin/controlplane/auditentry/add/").status_code == 403
    viewer = admin_client(make_user("ann", "view_execution", "view_task"))
    assert viewer.get("/admin/controlplane/auditentry/").status_code in (403, 404)
