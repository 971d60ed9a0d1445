"""Webhooks of services: addresses to which changes of executions are posted, and what was posted."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from executions.states import Status

#: Type of the event that is sent to try a webhook.
TEST = "webhook.test"


def event_type(status: str) -> str:
    """Return the type of the event of a change of an execution to this status."""
    return f"execution.{status.lower()}"


#: Types of events that a webhook can be sent.
EVENT_TYPES = tuple(event_type(status) for status in Status.values)


class NotPossible(Exception):
    """The state of a webhook or of a delivery does not allow it; the message says why."""


class Signature(models.TextChoices):
    """How what is posted is signed."""

    HMAC = "hmac", "HMAC-SHA256"
    ED25519 = "ed25519", "Ed25519"


class Webhook(models.Model):
    """Where changes of executions are posted, and which. It is its owner's, and is told what its owner may see."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="webhooks")
    name = models.CharField(max_length=100)
    url = models.CharField(max_length=500)
    events = models.JSONField(default=list, help_text="Types of events; all if empty.")
    party = models.CharField(max_length=253, blank=True, help_text="Only executions that it takes part in.")
    labels = models.JSONField(default=dict, blank=True, help_text="Only executions with all of these labels.")
    signature = models.CharField(max_length=10, choices=Signature.choices, default=Signature.HMAC)
    secret = models.TextField(help_text="Key of the signatures, encrypted.")
    former_secret = models.TextField(blank=True, help_text="The key before, encrypted, which signs, too.")
    former_until = models.DateTimeField(null=True, blank=True)
    public_key = models.CharField(max_length=100, blank=True, help_text="With which Ed25519 signatures are checked.")
    limited_to = models.JSONField(
        null=True, blank=True, help_text="Parties that the token was limited to with which it was made."
    )
    enabled = models.BooleanField(default=True)
    disabled_because = models.CharField(max_length=300, blank=True)
    version = models.PositiveIntegerField(default=1, help_text="Rises by one with each change.")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()
        ordering = ["-pk"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="a_webhook_has_a_name_of_its_own")]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def wants(cls, status: Any) -> bool:
        """Return whether any webhook may be sent a change to this status. Takes one query of a small table."""
        rows = cls.objects.filter(enabled=True).values_list("events", flat=True)
        return any(not events or event_type(status) in events for events in rows)


class PostStatus(models.TextChoices):
    """How far what is to be posted has got."""

    PENDING = "PENDING", _("pending")
    SENT = "SENT", _("sent")
    GIVEN_UP = "GIVEN_UP", _("given up")


class WebhookDelivery(models.Model):
    """One event for one webhook, and each try to post it."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    message = models.UUIDField(default=uuid.uuid4, help_text="Id of the event: the same each time it is sent.")
    execution = models.UUIDField(null=True, help_text="Events of one execution are sent in their order.")
    event_type = models.CharField(max_length=40)
    body = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)
    status = models.CharField(max_length=10, choices=PostStatus.choices, default=PostStatus.PENDING)
    since = models.DateTimeField(default=timezone.now, help_text="Tries are made for a day from then.")
    due_at = models.DateTimeField(default=timezone.now)
    tries = models.JSONField(default=list, help_text="The latest tries: when, the answer's status, what went wrong.")
    number_of_tries = models.PositiveIntegerField(default=0)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ()
        verbose_name_plural = "webhook deliveries"
        ordering = ["-pk"]
        # What is still to be posted has not ended: SQLite takes no partial index for a value that is a parameter
        indexes = [
            models.Index(fields=["webhook", "-id"], name="posts_newest_first"),
            models.Index(fields=["webhook", "status", "-id"], name="posts_by_status"),
            models.Index(fields=["webhook", "due_at", "id"], name="posts_due", condition=models.Q(ended_at=None)),
            models.Index(
                fields=["webhook", "execution", "id"],
                name="posts_of_an_execution",
                condition=models.Q(ended_at=None),
            ),
            models.Index(fields=["created_at"], name="posts_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} to {self.webhook_id}"
