"""Approvals that parties ask of people on their own hosts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from controlplane.models import Party, PartySet
from controlplane.models.protection import protect
from executions.models.execution import Execution


class ApprovalState(models.TextChoices):
    ASKED = "ASKED", _("awaiting approval")
    APPROVED = "APPROVED", _("approved")
    REFUSED = "REFUSED", _("refused")


class Approval(models.Model):
    """What a party's host said of an approval that an execution needs there. It is a note: the party's worker goes by
    the approval on its own disk alone."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="approvals")
    party = models.ForeignKey(Party, on_delete=protect, related_name="+")
    digest = models.CharField(max_length=64, help_text=_("Of all that would run at this party."))
    state = models.CharField(max_length=10, choices=ApprovalState.choices, default=ApprovalState.ASKED)
    asked_at = models.DateTimeField(default=timezone.now)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.CharField(max_length=100, blank=True, help_text=_("As the person named themselves."))
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-asked_at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["execution", "party"], name="a_party_approves_once")]
        indexes = [
            models.Index(fields=["-asked_at", "-id"], name="approvals_by_time"),
            models.Index(
                fields=["party", "digest"], name="approvals_asked", condition=models.Q(state=ApprovalState.ASKED)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.party.name}: {self.get_state_display()}"

    @classmethod
    def involving(
        cls, rows: models.QuerySet[Any], parties: Collection[str], wholly: bool = False
    ) -> models.QuerySet[Any]:
        """Return those of the rows whose execution involves at least one of the parties."""
        return rows.filter(execution__party_set__in=PartySet.keys(parties, wholly=wholly))

    @property
    def short(self) -> str:
        """Return as much of the digest as people need to name the request."""
        return self.digest[:12]
