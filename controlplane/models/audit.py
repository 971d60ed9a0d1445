"""The audit trail: who did what, when, and from where."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class AuditEntry(models.Model):
    """One thing that somebody did, or was refused. Rows are only ever added; a coordinator then seals them, each with
    the hash of the one before (``controlplane.audit.chain``)."""

    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=200, help_text=_("User, token of a user, person at a party, or command."))
    address = models.CharField(max_length=45, blank=True, help_text=_("Address that the request came from."))
    action = models.CharField(max_length=40)
    subject = models.CharField(max_length=200, help_text=_("What it was done to."))
    digest = models.CharField(max_length=64, blank=True, help_text=_("SHA-256 of what was written, as JSON."))
    details = models.CharField(max_length=500, blank=True)
    request_id = models.CharField(max_length=64, blank=True, help_text=_("Id of the request that did it."))
    #: Set when it is sealed. Not the key: keys may become visible out of order.
    position = models.PositiveBigIntegerField(null=True, editable=False, unique=True)
    hash = models.CharField(max_length=64, blank=True, editable=False)

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = _("audit entries")
        indexes = [
            models.Index(fields=["actor", "-id"], name="audit_by_actor"),
            models.Index(fields=["action", "-id"], name="audit_by_action"),
            models.Index(fields=["subject", "-id"], name="audit_by_subject"),
            models.Index(fields=["id"], name="audit_unsealed", condition=models.Q(position=None)),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.subject}"

    @classmethod
    def involving(
        cls, rows: models.QuerySet[Any], parties: Collection[str], wholly: bool = False
    ) -> models.QuerySet[Any]:
        """Return none of the rows: an entry may name any party, and is for those who have all."""
        return rows.none()
