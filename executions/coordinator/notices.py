"""Makes notifications of what has happened, for those who subscribe to it and may see the parties."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from controlplane.access import Access
from controlplane.models import Account, Channel, Notice, PartySet
from executions.coordinator import webhooks
from executions.models import Delivery, Happening, Notification
from executions.models.notification import TOLD
from executions.permissions import VIEW
from executions.states import Status

#: Changes that are told in one transaction, and the newest notifications that are kept of each user.
AT_ONCE, MOST_KEPT = 200, 500
#: Subscribers who are told at all.
MOST_READERS = 2000


@dataclass
class Reader:
    """A user who wants to be told of something."""

    account: Account

    def channels(self, kinds: Iterable[Notice]) -> set[str]:
        """Return how this user wants to be told, if it is of one of these kinds."""
        return {channel for kind in kinds for channel in self.account.subscriptions.get(kind, ())}

    @cached_property
    def access(self) -> Access:
        return Access(self.account.user)

    def sees(self, parties: Collection[str] | None, permission: str = "") -> bool:
        """Return whether the user may know of something that involves these parties; None: of no party."""
        if permission and not self.access.may(permission):
            return False
        return parties is None or self.access.parties is None or bool(self.access.parties.intersection(parties))


def readers() -> list[Reader]:
    """Return all subscribers. Takes one query."""
    rows = Account.objects.exclude(subscriptions={}).filter(user__is_active=True).select_related("user")
    return [Reader(account) for account in rows.order_by("pk")[:MOST_READERS]]


def step() -> bool:
    """Tell of some of what has happened. Returns whether there was something."""
    if not Happening.objects.exists():
        return False
    with transaction.atomic():
        held = Happening.objects.select_for_update(skip_locked=True, of=("self",)).order_by("pk")
        keys = list(held.values_list("pk", flat=True)[:AT_ONCE])
        rows = Happening.objects.filter(pk__in=keys).order_by("pk").values(
            "to_status", "at", "execution", "execution__name", "execution__task_type", "execution__parties",
            "execution__party_set", "execution__submitted_by", "execution__error_type", "execution__error_party",
            "execution__error_stage", "execution__error", "execution__labels", "execution__attempt",
            "execution__request_id",
        )  # fmt: skip
        told: list[Any] = list(rows)
        listening = readers() if told else []
        shown = [row for row in told if row["to_status"] in TOLD]
        store([notification for row in shown for notification in _of_execution(row, listening)])
        webhooks.prepare(told)
        Happening.objects.filter(pk__in=keys).delete()
    return bool(keys)


def _of_execution(row: dict[str, Any], listening: list[Reader]) -> Iterator[Notification]:
    """Yield what each subscriber is told of a change of an execution."""
    status = row["to_status"]
    name = f"{row['execution__name'] or row['execution__task_type']} {str(row['execution'])[:8]}"
    if status == Status.FAILURE:
        party, kind = row["execution__error_party"], row["execution__error_type"]
        text = f"{name} failed{f' at {party}' if party else ''}{f': {kind}' if kind else ''}"
    elif status == Status.AWAITING_APPROVAL:
        text = f"{name} awaits approval"
    else:
        text = f"{name} {'succeeded' if status == Status.SUCCESS else 'was cancelled'}"
    path = reverse("admin:executions_execution_change", args=[row["execution"]])
    for reader in listening:
        is_own = reader.account.pk == row["execution__submitted_by"]
        kinds = _kinds(status, is_own)
        channels = reader.channels(kinds)
        # What one has submitted oneself one is told of, as the API does, also without the permission to view others
        if channels and reader.sees(row["execution__parties"], "" if is_own else VIEW):
            yield made(reader, kinds[0], text, path, channels, row["execution__party_set"], row["at"])


def _kinds(status: str, is_own: bool) -> list[Notice]:
    if status == Status.AWAITING_APPROVAL:
        return [Notice.APPROVAL]
    if status == Status.FAILURE:
        return [Notice.OWN_FAILED, Notice.FAILED] if is_own else [Notice.FAILED]
    return [Notice.OWN_ENDED] if is_own else []


def tell(kind: Notice, text: str, path: str = "", party: str = "", permission: str = "") -> None:
    """Tell all subscribers of something that is no change of an execution; of a party, those who may see it."""
    parties = [party] if party else None
    listening = [reader for reader in readers() if reader.channels([kind]) and reader.sees(parties, permission)]
    if listening:
        party_set = PartySet.of(parties).pk if parties else None
        store([made(r, kind, text, path, r.channels([kind]), party_set, timezone.now()) for r in listening])


def made(
    reader: Reader, kind: Notice, text: str, path: str, channels: set[str], party_set: int | None, at: datetime
) -> Notification:
    """Return a notification that is not stored yet."""
    return Notification(
        user=reader.account.user,
        kind=kind,
        text=text[:300],
        path=path,
        party_set_id=party_set,
        at=at,
        in_console=Channel.CONSOLE in channels,
        by_email=Delivery.PENDING if Channel.EMAIL in channels else Delivery.NONE,
        by_webhook=Delivery.PENDING if Channel.WEBHOOK in channels else Delivery.NONE,
    )


def store(notifications: list[Notification]) -> None:
    """Store notifications, and of each user the newest alone."""
    Notification.objects.bulk_create(notifications, batch_size=500)
    for user in {notification.user_id for notification in notifications}:
        mine = Notification.objects.filter(user=user).order_by("-pk")
        if oldest := mine.values_list("pk", flat=True)[MOST_KEPT : MOST_KEPT + 1].first():
            Notification.objects.filter(user=user, pk__lte=oldest).delete()
