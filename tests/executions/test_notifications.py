"""What users are told: who of what, by which channel, and never of parties that they may not see."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.utils import timezone
from redis import Redis

from controlplane.documents.encryption import decrypted, encrypted
from controlplane.environment import environment
from controlplane.models import Account, Channel, Dataset, Notice, Outlet, PartyGrant
from controlplane.people import webhook
from controlplane.roles import OPERATOR
from executions.coordinator import conditions, deliveries, notices
from executions.coordinator.conditions import Conditions, tell_of_absence
from executions.models import Beat, Condition, Delivery, Execution, Happening, Notification
from executions.states import Status, transition
from tests.composed import admin_client, make_user
from tests.simulated import add_worker
from tests.walked import Circle, in_role

pytestmark = pytest.mark.django_db
LIST, SETTINGS = "/admin/notifications/", "/admin/notifications/settings/"
ALL = [str(channel) for channel in Channel]


@pytest.fixture
def circle(connection: Redis, db: None) -> Circle:
    mine = Circle.make("alice", "bob", 20000)
    Circle.make("carol", "dave", 22000)
    return mine


@pytest.fixture
def ann(circle: Circle) -> User:
    return in_role("ann", OPERATOR, circle.names)


def subscribe(user: User, *kinds: Notice, by: list[str] | None = None, **fields: Any) -> None:
    said = {str(kind): by or [str(Channel.CONSOLE)] for kind in kinds}
    Account.objects.update_or_create(user=user, defaults={"subscriptions": said, **fields})


def told(user: User) -> list[str]:
    return list(Notification.objects.filter(user=user).order_by("pk").values_list("text", flat=True))


def end(circle: Circle, by: User | None = None, to: Status = Status.FAILURE, **fields: Any) -> Execution:
    """An execution of a circle that has ended, or waits for an approval; nobody was told yet."""
    task = circle.rows["task"]
    execution = Execution.objects.submit(task.documents(), task=task, by=by)
    if to in (Status.SUCCESS, Status.FAILURE):
        transition(execution, Status.DISPATCHED, attempt=1)
        execution.refresh_from_db()
    transition(execution, to, **fields)
    return execution


def other_circle() -> Circle:
    return Circle(("carol", "dave"), {"task": Execution.objects.filter(task__name__startswith="carol")[0].task})


def test_a_subscriber_is_told_once_of_what_fails(circle: Circle, ann: User) -> None:
    subscribe(ann, Notice.FAILED, Notice.OWN_FAILED)
    vera = make_user("vera", "view_execution", parties=["alice"])
    subscribe(vera, Notice.FAILED)
    execution = end(circle, by=ann, error_party="alice", error_type="DataError", error="row 7 says: secret")
    end(circle, to=Status.SUCCESS)
    assert notices.step()
    text = f"alice-bob task {str(execution.pk)[:8]} failed at alice: DataError"
    assert (told(ann), told(vera)) == ([text], [text])
    assert not notices.step()
    assert not Happening.objects.exists()


def test_nobody_is_told_of_parties_that_they_may_not_see(circle: Circle, ann: User) -> None:
    subscribe(ann, Notice.FAILED, Notice.APPROVAL, Notice.PARTY_AWAY, Notice.DRIFT)
    blind = make_user("blind", parties=circle.names)
    subscribe(blind, Notice.FAILED)
    end(other_circle())
    end(other_circle(), to=Status.AWAITING_APPROVAL)
    notices.tell(Notice.PARTY_AWAY, "carol has no live worker", "", "carol", "controlplane.view_party")
    end(circle)
    notices.step()
    assert len(told(ann)) == 1
    assert told(blind) == [], "without the permission to view executions"


def test_each_kind_is_for_who_chose_it(circle: Circle, ann: User) -> None:
    subscribe(ann, Notice.OWN_ENDED, Notice.APPROVAL)
    end(circle, by=ann)
    end(circle, by=ann, to=Status.SUCCESS)
    end(circle, by=ann, to=Status.CANCELLED)
    end(circle, to=Status.CANCELLED)
    end(circle, to=Status.AWAITING_APPROVAL)
    notices.step()
    assert [re.sub(r" [0-9a-f]{8}", "", text) for text in told(ann)] == [
        "alice-bob task succeeded", "alice-bob task was cancelled", "alice-bob task awaits approval"
    ]  # fmt: skip


def test_a_change_that_is_undone_tells_nobody(circle: Circle, ann: User) -> None:
    assert not Happening.objects.exists(), "submitting is nothing to be told of"
    execution = end(circle)
    assert Happening.objects.count() == 1
    execution.delete()
    assert not notices.step()


def test_a_user_keeps_the_newest(circle: Circle, ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "MOST_KEPT", 3)
    subscribe(ann, Notice.FAILED)
    for _ in range(5):
        end(circle)
    notices.step()
    assert Notification.objects.filter(user=ann).count() == 3


# What no change tells of


def test_a_party_that_goes_away_is_told_once(
    circle: Circle, ann: User, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(ann, Notice.PARTY_AWAY)
    monkeypatch.setattr(conditions, "INTERVAL", 0)
    monkeypatch.setattr(conditions, "AWAY_AFTER", 0)
    watch, another = Conditions(connection), Conditions(connection)
    watch.step()
    assert told(ann) == [], "it was never there"
    add_worker(connection, "alice")
    watch.step()
    connection.flushdb()
    watch.step()
    another.step()
    watch.step()
    assert told(ann) == ["alice has no live worker"]
    add_worker(connection, "alice")
    another.step()
    connection.flushdb()
    another.step()
    assert len(told(ann)) == 2


def test_drift_is_told_once_and_again_after_it_was_mended(
    circle: Circle, ann: User, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(ann, Notice.DRIFT)
    monkeypatch.setattr(conditions, "INTERVAL", 0)
    watch = Conditions(connection)
    rows = Dataset.objects.filter(name="table_of_alice")
    for _ in range(2):
        rows.update(reported_at=timezone.now(), reported_columns={"uid": "int"}, differs=True)
        Dataset.objects.filter(name="table_of_carol").update(reported_at=timezone.now(), reported_problem="gone")
        watch.step()
        watch.step()
        rows.update(differs=False)
        watch.step()
    assert told(ann) == ["Dataset alice/table_of_alice is not as registered"] * 2


def test_a_time_without_a_coordinator_is_told_once(circle: Circle, ann: User) -> None:
    subscribe(ann, Notice.COORDINATOR)
    tell_of_absence()
    Beat.objects.create(coordinator="c", at=timezone.now() - timedelta(minutes=7))
    tell_of_absence()
    tell_of_absence()
    assert told(ann) == ["No coordinator was running for 7 min; one is again"]
    Condition.objects.update(since=timezone.now() - timedelta(hours=1))
    Beat.objects.update(at=timezone.now())
    tell_of_absence()
    assert len(told(ann)) == 1


# By which channel


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    sent: list[Any] = []
    monkeypatch.setattr(webhook, "post", lambda *said: sent.append(said))
    return sent


def due() -> None:
    Outlet.objects.update(due_at=timezone.now())


def test_it_is_mailed_and_posted_outside_the_console(
    circle: Circle, ann: User, posted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "email_host", "mail.example.org")
    monkeypatch.setattr(environment, "site_url", "https://site.example/")
    ann.email = "ann@example.org"
    ann.save()
    client = admin_client(ann)
    form = {f"{Notice.FAILED}-{channel}": "on" for channel in Channel}
    page = client.post(SETTINGS, form | {"webhook_url": "https://hooks.example/x"})
    assert (page.status_code, "no-store" in page.headers["Cache-Control"]) == (200, True)
    secret = re.search(r"data-secret>([0-9a-f]{64})<", page.content.decode())
    assert secret
    assert decrypted(Account.objects.get(user=ann).webhook_secret) == secret[1]
    assert secret[1] not in client.get(SETTINGS).content.decode()
    execution = end(circle)
    end(circle)
    notices.step()
    assert deliveries.step()
    (message,) = mail.outbox
    assert (message.to, message.subject) == (["ann@example.org"], "SecretFlow: 2 notifications")
    assert f"https://site.example/admin/executions/execution/{execution.pk}/change/" in message.body
    ((address, key, body),) = posted
    assert (address, key) == ("https://hooks.example/x", secret[1])
    assert [row["kind"] for row in json.loads(body)["notifications"]] == ["failed", "failed"]
    assert not deliveries.step(), "each is sent once"
    end(circle)
    notices.step()
    assert not deliveries.step(), "it waits a moment, so that many go into one message"
    due()
    assert deliveries.step()
    assert len(mail.outbox) == len(posted) == 2


def test_what_cannot_be_sent_is_tried_again_and_then_given_up(
    circle: Circle, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(ann, Notice.FAILED, by=ALL, webhook_url="https://hooks.example/x", webhook_secret="encrypted:x")
    end(circle)
    notices.step()
    waits = []
    for _ in range(deliveries.MOST_TRIES):
        assert Notification.objects.filter(by_webhook=Delivery.PENDING).exists()
        due()
        deliveries.step()
        outlet = Outlet.objects.get(channel=Channel.WEBHOOK)
        assert outlet.error == "no address of a webhook is set", "its key cannot be read any more"
        waits.append((outlet.due_at - timezone.now()).total_seconds())
    assert waits[:3] == pytest.approx([60, 120, 240], abs=5)
    assert max(waits) <= deliveries.LONGEST_WAIT.total_seconds()
    row = Notification.objects.get()
    assert (row.by_email, row.by_webhook) == (Delivery.GIVEN_UP, Delivery.GIVEN_UP)
    assert admin_client(ann).get(SETTINGS).content.decode().count("the latest try failed") == 2


def test_what_was_lost_meanwhile_is_not_sent(circle: Circle, ann: User, posted: list[Any]) -> None:
    subscribe(ann, Notice.FAILED, by=ALL, webhook_url="https://hooks.example/x")
    Account.objects.update(webhook_secret=encrypted("key"))
    end(circle)
    notices.step()
    PartyGrant.objects.filter(user=ann).delete()
    deliveries.step()
    assert posted == []
    assert Notification.objects.get().by_webhook == Delivery.GIVEN_UP


def test_another_coordinator_leaves_a_user_to_the_first(
    circle: Circle, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_within: list[bool] = []

    def send(*_: Any) -> str:
        from_within.append(deliveries.step())
        return ""

    monkeypatch.setattr(deliveries, "_send", send)
    subscribe(ann, Notice.FAILED, by=[str(Channel.WEBHOOK)])
    end(circle)
    notices.step()
    assert deliveries.step()
    assert from_within == [False]


def test_the_sender_goes_on_after_an_error_and_ends_when_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    twice = Event()

    def step() -> bool:
        seen.append(1)
        if len(seen) == 1:
            raise RuntimeError("a server of others did what nobody foresaw")
        twice.set()
        return False

    monkeypatch.setattr(deliveries, "step", step)
    sender = deliveries.Sender("notifications", deliveries.step, 0.01)
    sender.start()
    assert twice.wait(10)
    sender.stop()
    number = len(seen)
    assert not sender._thread.is_alive()
    assert len(seen) == number


# In the console


def test_the_bell_counts_and_the_page_marks_as_read(circle: Circle, ann: User) -> None:
    client = admin_client(ann)
    assert "cpp-bell" not in client.get("/admin/").content.decode()
    subscribe(ann, Notice.FAILED)
    for _ in range(3):
        end(circle)
    notices.step()
    assert "Notifications, 3 unread" in client.get("/admin/controlplane/task/").content.decode()
    page = client.get(LIST).content.decode()
    assert page.count("Mark as read") >= 3
    first = Notification.objects.first()
    assert first
    opened = client.get(f"{LIST}{first.pk}/")
    assert (opened.status_code, opened.headers["Location"]) == (302, first.path)
    assert "Notifications, 2 unread" in client.get("/admin/").content.decode()
    other = Notification.objects.filter(read_at=None)[0]
    assert client.post(f"{LIST}read/", {"notification": other.pk}).status_code == 302
    assert "Notifications, 1 unread" in client.get("/admin/").content.decode()
    for odd in ("x", "9" * 30, "-1"):
        assert client.post(f"{LIST}read/", {"notification": odd}).status_code == 302
    assert client.post(f"{LIST}read/").status_code == 302
    assert "unread" not in client.get("/admin/").content.decode()


def test_nobody_sees_or_opens_what_others_were_told_or_what_was_lost(circle: Circle, ann: User) -> None:
    subscribe(ann, Notice.FAILED)
    end(circle)
    notices.step()
    row = Notification.objects.get()
    assert admin_client(make_user("bea")).get(f"{LIST}{row.pk}/").status_code == 404
    PartyGrant.objects.filter(user=ann).delete()
    client = admin_client(User.objects.get(pk=ann.pk))
    assert row.text not in client.get(LIST).content.decode()
    assert client.get(f"{LIST}{row.pk}/").status_code == 404
    client.post(f"{LIST}read/")
    assert Notification.objects.get().read_at is None
