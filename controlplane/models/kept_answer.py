"""The answers to writes that had an Idempotency-Key."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone


class KeptAnswer(models.Model):
    """What a write was answered, so that the same request, sent again, is answered the same and does nothing.

    It is added before the write begins, without an answer. The answer is stored in the transaction of the write, so
    that there is either both or neither, whenever a process dies.
    """

    sender = models.CharField(max_length=100, help_text="The token, or the user without one: keys are its own.")
    key = models.CharField(max_length=255)
    request = models.CharField(max_length=64, help_text="Digest of method, address and body.")
    lease = models.UUIDField(default=uuid.uuid4, help_text="Changes with each process that takes the request up.")
    since = models.DateTimeField(default=timezone.now)
    status = models.PositiveSmallIntegerField(null=True, help_text="Null while the write is at work.")
    body = models.TextField(blank=True)
    headers = models.JSONField(default=dict)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["sender", "key"], name="a_key_is_used_once")]
        indexes = [models.Index(fields=["since"], name="kept_answers_by_time")]

    def __str__(self) -> str:
        return f"{self.key} of {self.sender}"
