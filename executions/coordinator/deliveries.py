"""Sends notifications by e-mail and webhook, beside the coordinator's steps: no server of others holds these up."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from threading import Event, Thread
from typing import Any

from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from controlplane.access import Access
from controlplane.documents.encryption import decrypted
from controlplane.environment import environment
from controlplane.models import Account, Channel, Outlet
from controlplane.people import mail, webhook
from executions.coordinator.isolation import alone
from executions.models import Delivery, Notification

log = logging.getLogger(__name__)

#: Notifications in one message, and users who are sent something in one step.
MOST_IN_ONE, MOST_USERS = 50, 50
#: What a user has several of within this time goes into one message.
PAUSE = {Channel.EMAIL: timedelta(minutes=1), Channel.WEBHOOK: timedelta(seconds=5)}
#: For which another coordinator leaves a user to the one that has begun.
LEASE = timedelta(minutes=2)
#: Tries until what is waiting is given up, and the longest time between two: about half a day in all.
MOST_TRIES, LONGEST_WAIT = 12, timedelta(hours=2)
_FIELDS = {Channel.EMAIL: "by_email", Channel.WEBHOOK: "by_webhook"}


def step() -> bool:
    """Send some of what is due. Returns whether something was. Must not be called in a transaction."""
    did = False
    for channel, field in _FIELDS.items():
        waiting = Notification.objects.filter(**{field: Delivery.PENDING}).order_by()
        for user in list(waiting.values_list("user", flat=True).distinct()[:MOST_USERS]):
            with alone(f"notifications by {channel.label} to user {user}"):
                did |= _serve(user, channel)
    return did


def _serve(user: int, channel: Channel) -> bool:
    """Send what waits for one user by one channel, unless it is too early or another coordinator does."""
    outlet, _ = Outlet.objects.get_or_create(user_id=user, channel=channel)
    now = timezone.now()
    if not Outlet.objects.filter(pk=outlet.pk, due_at=outlet.due_at, due_at__lte=now).update(due_at=now + LEASE):
        return False
    field = _FIELDS[channel]
    account = Account.objects.select_related("user").filter(user=user).first()
    pending = Notification.objects.filter(user=user, **{field: Delivery.PENDING}).order_by("pk")
    rows = list(pending[:MOST_IN_ONE])
    # Since it was made the user may have lost the parties, or everything
    access = Access(account.user) if account else None
    known = Notification.objects.filter(pk__in=[row.pk for row in rows])
    seen = set(access.visible(known).values_list("pk", flat=True)) if access else set()
    told = [row for row in rows if row.pk in seen] if account and account.user.is_active else []
    why = _send(account, channel, told) if account and told else ""
    tries = outlet.tries + 1 if why else 0
    is_over = not why or tries >= MOST_TRIES
    if is_over:
        keys = {row.pk for row in told}
        known.filter(pk__in=keys).update(**{field: Delivery.GIVEN_UP if why else Delivery.SENT})
        known.exclude(pk__in=keys).update(**{field: Delivery.GIVEN_UP})
        tries = 0
    wait = min(timedelta(seconds=30) * 2**tries, LONGEST_WAIT) if why else PAUSE[channel]
    sent: dict[str, Any] = {} if why or not told else {"sent_at": timezone.now()}
    Outlet.objects.filter(pk=outlet.pk).update(tries=tries, due_at=timezone.now() + wait, error=why[:300], **sent)
    return True


def _send(account: Account, channel: Channel, rows: Sequence[Notification]) -> str:
    """Send notifications. Returns what went wrong; empty if nothing did."""
    if channel == Channel.EMAIL:
        return _mail(account.user, rows)
    secret = decrypted(account.webhook_secret)
    if not account.webhook_url or not secret:
        return "no address of a webhook is set"
    body = json.dumps({"user": account.user.get_username(), "notifications": [_as_json(row) for row in rows]})
    try:
        webhook.post(account.webhook_url, secret, body.encode())
    except webhook.NotSent as error:
        return str(error)
    return ""


def _mail(user: User, rows: Sequence[Notification]) -> str:
    if not mail.is_configured():
        return "no mail server is set"
    if not user.email:
        return "the user has no e-mail address"
    site = environment.site_url.rstrip("/")
    lines = [f"- {row.text} ({row.at:%Y-%m-%d %H:%M} UTC)\n  {site}{row.path}" for row in rows]
    subject = rows[0].text if len(rows) == 1 else f"{len(rows)} notifications"
    text = "\n".join([*lines, "", "Choose what you are told of under Your account, Notifications."])
    return mail.send(f"SecretFlow: {subject}", text, [user.email])


def _as_json(row: Notification) -> dict[str, Any]:
    address = f"{environment.site_url.rstrip('/')}{row.path}"
    return {"id": row.pk, "kind": row.kind, "text": row.text, "at": row.at.isoformat(), "url": address}


class Sender:
    """A thread of the coordinator that sends what is due, by a step that it repeats."""

    #: Seconds after a step that sent something.
    BUSY = 0.02

    def __init__(self, name: str, step: Callable[[], bool], interval: float) -> None:
        """``step`` returns whether it sent anything; ``interval``: seconds until the next one if it did not."""
        self._name, self._step, self._interval = name, step, interval
        self._ending = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after what is being sent, or leave it: it is sent again then."""
        self._ending.set()
        self._thread.join(webhook.TIMEOUT)

    def _run(self) -> None:
        did = False
        while not self._ending.wait(self.BUSY if did else self._interval):
            did = False
            try:
                did = self._step()
            except (DatabaseError, InterfaceError) as error:  # the coordinator itself says more
                log.warning("%s wait: the database did not answer (%s)", self._name, type(error).__name__)
            except Exception:
                log.exception("%s wait", self._name)
            finally:
                if not did:
                    connection.close()
