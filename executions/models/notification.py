"""What users are told: notifications, what is still to be told, and the conditions that are watched."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from controlplane.models import Notice, PartySet
from executions.models.webhook import Webhook
from executions.states import ENDED, Status

#: Changes of an execution that somebody may want to be told of.
TOLD = frozenset({*ENDED, Status.AWAITING_APPROVAL})


class Happening(models.Model):
    """A change of an execution of which nobody has been told yet. It is added in the transaction of the change, which
    so costs no more for however many subscribers; a coordinator makes notifications of it and removes it."""

    execution = models.ForeignKey("executions.Execution", on_delete=models.CASCADE, related_name="happenings")
    to_status = models.CharField(max_length=20)
    at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.execution_id} to {self.to_status}"

    @classmethod
    def note(cls, execution: Any, to: Any, at: datetime) -> None:
        """Add a change, if it is one to be told of, or a webhook wants it."""
        if to in TOLD or Webhook.wants(to):
            cls.objects.create(execution=execution, to_status=to, at=at)


class Delivery(models.IntegerChoices):
    """How far a notification has got by a channel."""

    NONE = 0, _("not by this channel")
    PENDING = 1, _("to be sent")
    SENT = 2, _("sent")
    GIVEN_UP = 3, _("given up")


class Notification(models.Model):
    """Something that one user is told."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications", db_index=False
    )
    kind = models.CharField(max_length=20, choices=Notice.choices)
    text = models.CharField(max_length=300)
    path = models.CharField(max_length=200, blank=True, help_text=_("Page of what it is about."))
    party_set = models.ForeignKey(
        PartySet, on_delete=models.CASCADE, null=True, related_name="+", help_text=_("Parties that it tells of.")
    )
    at = models.DateTimeField(default=timezone.now)
    in_console = models.BooleanField(default=True)
    read_at = models.DateTimeField(null=True, blank=True)
    by_email = models.PositiveSmallIntegerField(choices=Delivery.choices, default=Delivery.NONE)
    by_webhook = models.PositiveSmallIntegerField(choices=Delivery.choices, default=Delivery.NONE)

    class Meta:
        default_permissions = ()
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["user", "-id"], name="notifications_newest_first"),
            models.Index(
                fields=["user"], name="notifications_unread", condition=models.Q(read_at=None, in_console=True)
            ),
            models.Index(fields=["user"], name="notifications_to_mail", condition=models.Q(by_email=Delivery.PENDING)),
            models.Index(
                fields=["user"], name="notifications_to_post", condition=models.Q(by_webhook=Delivery.PENDING)
            ),
        ]

    def __str__(self) -> str:
        return self.text

    @classmethod
    def involving(
        cls, rows: models.QuerySet[Any], parties: Collection[str], wholly: bool = False
    ) -> models.QuerySet[Any]:
        """Return those of the rows that tell of one of the parties, or of none."""
        return rows.filter(models.Q(party_set=None) | models.Q(party_set__in=PartySet.keys(parties, wholly=wholly)))


class Condition(models.Model):
    """Whether something that is watched is as it should be. A change is told once: by the coordinator that notes it."""

    #: Kind of a task that is not valid any more, by its key; users are not told of it.
    TASK = "task"
    MOST_TASKS = 500

    kind = models.CharField(max_length=20)
    key = models.CharField(max_length=253)
    is_bad = models.BooleanField(default=False)
    since = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["kind", "key"], name="a_condition_is_noted_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"

    @classmethod
    def invalid_tasks(cls) -> list[int]:
        """Return the keys of the tasks that are not valid any more, some hundreds at most."""
        rows = cls.objects.filter(kind=cls.TASK, is_bad=True).values_list("key", flat=True)[: cls.MOST_TASKS]
        return [int(key) for key in rows]

    @classmethod
    def turns(cls, kind: str, key: str, is_bad: bool) -> bool:
        """Note how something is. Returns whether it was otherwise before, and nobody else has noted that."""
        rows = cls.objects.filter(kind=kind, key=key)
        if rows.filter(is_bad=not is_bad).update(is_bad=is_bad, since=timezone.now()):
            return True
        return cls.objects.get_or_create(kind=kind, key=key, defaults={"is_bad": is_bad})[1]
