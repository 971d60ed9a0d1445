"""An execution waits for people at its parties where their hosts say so, and goes on or fails by what they decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from redis import Redis

from controlplane.models import AuditEntry
from executions.coordinator import approvals
from executions.coordinator.approvals import look_again
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.listener import Listener
from executions.models import Approval, ApprovalState, DeadLetter, Execution, PartyCheck, Preflight
from executions.states import Status
from tests.composed import admin_client, api_client, superuser
from tests.keys import stream
from tests.simulated import a_second_later, status, submit
from workers.contract.reports import APPROVAL

DIGEST = "a1" * 32


@pytest.fixture
def dispatcher(workers: None, connection: Redis) -> Dispatcher:
    return Dispatcher(connection)


def checked(**asked: str) -> None:
    """The hosts have checked it; these ask for an approval of this digest."""
    for part in PartyCheck.objects.filter(answered_at=None).select_related("party"):
        digest = asked.get(part.party.name)
        part.facts = {"approval": {"digest": digest, "state": "asked"}} if digest else {}
        part.answered_at = timezone.now()
        part.save()


def step(dispatcher: Dispatcher, **asked: str) -> None:
    a_second_later(dispatcher)
    dispatcher.step()
    checked(**asked)
    dispatcher.step()


def decide(
    connection: Redis,
    party: str,
    executions: list[Execution],
    *,
    approved: bool = True,
    digest: str = DIGEST,
    terms: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    publication = str(uuid4())
    content = {
        "publication": publication, "digest": digest, "executions": [str(one.pk) for one in executions],
        "approved": approved, "by": "ann", "reason": "" if approved else "not this quarter",
    }  # fmt: skip
    stream(connection, party).report(APPROVAL, {**content, **terms})
    Listener(connection).step()
    answer: Any = connection.lpop(f"datasets:{party}:{publication}")
    return answer.decode() if answer else ""


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({"uses": 1, "days": 7.0}, "for 1 execution, within 7 days"),
        ({"uses": 1000, "days": 0.5}, "for 1,000 executions, within 0.5 days"),
        ({}, ""),  # of a party of an older version
    ],
)
def test_the_audit_trail_tells_how_much_was_approved(
    dispatcher: Dispatcher, connection: Redis, terms: dict[str, Any], told: str
) -> None:
    execution = submit()
    step(dispatcher, alice=DIGEST)
    decide(connection, "alice", [execution], terms=terms)
    entry = AuditEntry.objects.get(action="approve")
    assert (entry.actor, entry.subject, entry.details) == ("ann at alice", f"execution {execution.pk}", told)


def test_it_waits_for_everybody_who_has_to_approve(dispatcher: Dispatcher, connection: Redis) -> None:
    execution = submit()
    step(dispatcher, alice=DIGEST, bob="b2" * 32)
    assert status(execution) == Status.AWAITING_APPROVAL
    assert "alice has to approve it: `manage.py party approve a1a1a1a1a1a1` on its host" in execution.waiting_for
    assert not execution.runs.exists()
    assert "noted" in decide(connection, "alice", [execution])
    assert status(execution) == Status.AWAITING_APPROVAL
    decide(connection, "bob", [execution], digest="b2" * 32)
    assert status(execution) == Status.QUEUED
    step(dispatcher)
    assert status(execution) == Status.DISPATCHED
    assert {(a.party.name, a.state, a.decided_by) for a in Approval.objects.filter(execution=execution)} == {
        ("alice", "APPROVED", "ann"), ("bob", "APPROVED", "ann"),
    }  # fmt: skip


def test_a_refusal_fails_it_with_its_reason(dispatcher: Dispatcher, connection: Redis) -> None:
    execution = submit()
    step(dispatcher, bob=DIGEST)
    decide(connection, "bob", [execution], approved=False)
    assert status(execution) == Status.FAILURE
    assert (execution.error, execution.error_party, execution.error_stage) == (
        "bob refused to approve it: not this quarter", "bob", "approval",
    )  # fmt: skip


def test_a_party_decides_for_itself_alone(dispatcher: Dispatcher, connection: Redis) -> None:
    execution = submit()
    step(dispatcher, alice=DIGEST)
    assert "nothing waits for it" in decide(connection, "bob", [execution])
    assert "nothing waits for it" in decide(connection, "alice", [execution], digest="c3" * 32)
    assert status(execution) == Status.AWAITING_APPROVAL


def test_what_was_decided_before_is_of_no_other_execution(dispatcher: Dispatcher, connection: Redis) -> None:
    """Redis says again what it heard: a refusal must not fail what asked later."""
    first = submit()
    step(dispatcher, alice=DIGEST)
    decide(connection, "alice", [first], approved=False)
    second = submit()
    step(dispatcher, alice=DIGEST)
    decide(connection, "alice", [first], approved=False)
    assert status(second) == Status.AWAITING_APPROVAL


def test_a_host_that_asks_again_is_waited_for_again(dispatcher: Dispatcher, connection: Redis) -> None:
    """A control plane that took an approval for given when it was not: the host's word counts."""
    execution = submit()
    step(dispatcher, alice=DIGEST)
    Approval.objects.update(state=ApprovalState.APPROVED)
    Execution.objects.filter(pk=execution.pk).update(status=Status.QUEUED, queued_at=timezone.now())
    step(dispatcher, alice=DIGEST)
    assert status(execution) == Status.AWAITING_APPROVAL
    assert Approval.objects.get().state == ApprovalState.ASKED


def test_a_decision_that_nobody_heard_of_is_found_by_asking_again(
    dispatcher: Dispatcher, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made between the host's question and the execution's waiting, or while Redis was away."""
    execution = submit()
    step(dispatcher, alice=DIGEST)
    assert not look_again(connection), "not at once"
    monkeypatch.setattr(approvals, "LOOK_AGAIN", timedelta(0))
    monkeypatch.setattr(approvals, "SELDOM", timedelta(0))
    assert look_again(connection)
    assert not look_again(connection), "it is being checked"
    checked(alice=DIGEST)
    assert look_again(connection)
    assert status(execution) == Status.AWAITING_APPROVAL
    checked()
    assert look_again(connection)
    assert status(execution) == Status.QUEUED
    step(dispatcher)
    assert status(execution) == Status.DISPATCHED


def test_hosts_are_asked_ever_more_seldom(
    dispatcher: Dispatcher, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = submit()
    step(dispatcher, alice=DIGEST)
    began = now = timezone.now()
    Approval.objects.update(asked_at=began)
    asked: list[float] = []
    monkeypatch.setattr(timezone, "now", lambda: now)
    while now < began + timedelta(days=2):
        now += timedelta(seconds=5 if len(asked) < 3 else 600)
        if look_again(connection):
            asked.append((now - began).total_seconds())
            facts = {"approval": {"digest": DIGEST, "state": "asked"}}
            PartyCheck.objects.filter(answered_at=None).update(answered_at=now, facts=facts)
    assert asked[:3] == [20, 40, 80]
    assert len(asked) < 60
    assert status(execution) == Status.AWAITING_APPROVAL


def test_looking_at_many_that_wait_takes_as_many_queries_as_at_one(
    dispatcher: Dispatcher, connection: Redis, django_assert_num_queries: Any
) -> None:
    """The coordinator looks twice a second, and people may take weeks."""
    submit()
    step(dispatcher, alice=DIGEST)
    with django_assert_num_queries(3):
        assert not look_again(connection)
    for _ in range(4):
        submit()
        step(dispatcher, alice=DIGEST)
    assert Execution.objects.filter(status=Status.AWAITING_APPROVAL).count() == 5
    with django_assert_num_queries(3):
        assert not look_again(connection)


def test_it_can_be_cancelled_while_it_waits(dispatcher: Dispatcher, connection: Redis) -> None:
    execution = submit()
    step(dispatcher, alice=DIGEST)
    execution.cancel()
    assert status(execution) == Status.CANCELLED
    decide(connection, "alice", [execution])
    assert status(execution) == Status.CANCELLED


@pytest.mark.parametrize("facts", [None, {"approval": 1}, {"approval": {"digest": 7, "state": "asked"}},
                                   {"approval": {"digest": "../" * 20 + "abcd", "state": "asked"}},
                                   {"approval": {"digest": DIGEST, "state": "needed"}}])  # fmt: skip
def test_facts_that_ask_for_nothing_let_it_go_on(dispatcher: Dispatcher, facts: Any) -> None:
    execution = submit()
    dispatcher.step()
    PartyCheck.objects.update(answered_at=timezone.now(), facts={} if facts is None else facts)
    dispatcher.step()
    assert status(execution) == Status.DISPATCHED


@pytest.mark.parametrize(
    "content",
    [{}, {"digest": "x"}, {"digest": DIGEST, "executions": ["x"], "approved": True, "by": "a", "publication": "x"}],
)
def test_a_report_that_is_none_is_set_aside(workers: None, connection: Redis, content: dict[str, Any]) -> None:
    stream(connection, "alice").report(APPROVAL, content)
    Listener(connection).step()
    assert DeadLetter.objects.get().kind == "approval report"


def test_a_dispatch_limit_does_not_count_while_people_think(dispatcher: Dispatcher, connection: Redis) -> None:
    execution = submit(dispatch_limit_seconds=60)
    step(dispatcher, alice=DIGEST)
    long_ago = timezone.now() - timedelta(hours=30)
    Execution.objects.filter(pk=execution.pk).update(created_at=long_ago, queued_at=long_ago)
    Preflight.objects.update(requested_at=long_ago)
    a_second_later(dispatcher)
    dispatcher.step()
    assert status(execution) == Status.AWAITING_APPROVAL
    decide(connection, "alice", [execution])
    step(dispatcher)
    assert status(execution) == Status.DISPATCHED


def test_people_see_what_waits_for_whom(
    dispatcher: Dispatcher, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    execution = submit()
    step(dispatcher, alice=DIGEST)
    client = admin_client(superuser())
    with django_assert_max_num_queries(15):
        page = client.get("/admin/executions/approval/").content.decode()
    assert "alice" in page
    assert "awaiting approval" in page
    assert "a1a1a1a1a1a1" in page
    assert client.get(f"/admin/executions/approval/{Approval.objects.get().pk}/change/").status_code == 200
    assert client.post("/admin/executions/approval/add/").status_code in (403, 404)
    shown = client.get(f"/admin/executions/execution/{execution.pk}/change/").content.decode()
    assert "alice has to approve it" in shown
    found = api_client(superuser()).get(f"/api/v1/executions/{execution.pk}/").json()
    assert found["status"] == "AWAITING_APPROVAL"
    assert found["waiting_for"].startswith("alice has to approve it")
