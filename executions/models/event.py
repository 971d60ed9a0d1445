"""The events that parties sent."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from executions.models.execution import Execution
from executions.models.party_run import PartyRun


class ExecutionEvent(models.Model):
    """A status event as a party sent it (``workers.contract.events``), kept once however often it is delivered."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="events")
    party = models.CharField(max_length=32)
    attempt = models.PositiveIntegerField()
    sequence = models.PositiveIntegerField(help_text=_("Counts up within a party's attempt."))
    status = models.CharField(max_length=10)
    stage = models.CharField(max_length=32, blank=True)
    timestamp = models.DateTimeField(help_text=_("Time by the party's clock."))
    received_at = models.DateTimeField(default=timezone.now)
    worker = models.CharField(max_length=200, blank=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["execution", "attempt", "timestamp", "party", "sequence"]
        constraints = [
            models.UniqueConstraint(
                fields=["execution", "party", "attempt", "sequence"], name="an_event_is_applied_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.party} {self.sequence}: {self.status} {self.stage}"


class EventPiece(models.Model):
    """A piece of a large event, kept until all pieces have come."""

    run = models.ForeignKey(PartyRun, on_delete=models.CASCADE, related_name="pieces")
    sequence = models.PositiveIntegerField(help_text=_("Sequence number of the event."))
    number = models.PositiveIntegerField(help_text=_("Number of this part, from 1."))
    of = models.PositiveIntegerField(help_text=_("Number of parts."))
    content = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "sequence", "number"], name="a_piece_of_an_event_is_kept_once")
        ]

    def __str__(self) -> str:
        return f"{self.number} of {self.of} of event {self.sequence}"
