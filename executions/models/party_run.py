"""What each party did in each attempt, and the ports that it was leased."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from controlplane.models import Party
from controlplane.models.protection import protect
from executions.models.execution import Execution
from executions.states import RUN_ENDED, RunStatus

#: Its process is gone, and what came of it is not known. Statuses that it may have are listed, in one order: an index
#: serves a query only if the two say the same.
UNDECIDED = models.Q(released_at__isnull=False, status__in=sorted(set(RunStatus) - RUN_ENDED))


class PartyRun(models.Model):
    """One attempt of an execution at one party."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="runs")
    party = models.ForeignKey(Party, on_delete=protect, related_name="runs")
    attempt = models.PositiveIntegerField()
    job_id = models.CharField(max_length=120, unique=True)
    ports = models.JSONField(default=list, help_text=_("Ports leased for this attempt."))

    status = models.CharField(max_length=20, choices=RunStatus.choices, default=RunStatus.DISPATCHED)
    stage = models.CharField(max_length=32, blank=True)
    progress = models.FloatField(default=0)
    devices = models.JSONField(default=list, help_text=_("Devices brought up so far."))
    worker = models.CharField(max_length=200, blank=True)
    last_sequence = models.PositiveIntegerField(default=0, help_text=_("Sequence number of the newest event applied."))

    dispatched_at = models.DateTimeField(default=timezone.now)
    enqueued_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text=_("Time at which its job was known to be in Redis; until then it is enqueued again."),
    )
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    stop_requested_at = models.DateTimeField(null=True, blank=True)
    released_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text=_("Time at which its process was gone, and its slot and ports were free again."),
    )

    error = models.TextField(blank=True)
    error_type = models.CharField(max_length=64, blank=True)
    caused_by_peer = models.BooleanField(default=False, help_text=_("The error only echoes a peer's."))
    crashed = models.BooleanField(default=False, help_text=_("Its process crashed: perhaps because a peer went away."))
    result = models.JSONField(default=dict, blank=True)
    execution_seconds = models.FloatField(
        null=True, blank=True, help_text=_("Seconds that the run took, measured by the party.")
    )

    class Meta:
        ordering = ["execution", "attempt", "party__name"]
        constraints = [
            models.UniqueConstraint(fields=["execution", "attempt", "party"], name="one_run_per_attempt_and_party")
        ]
        indexes = [
            models.Index(fields=["party"], condition=models.Q(released_at__isnull=True), name="partyrun_unreleased"),
            # For recovery: a few among millions
            models.Index(fields=["execution"], condition=UNDECIDED, name="partyrun_undecided"),
        ]

    def __str__(self) -> str:
        return f"{self.party.name}, attempt {self.attempt}"


class PortLease(models.Model):
    """A port in use by a run; the row is deleted when the run is released."""

    party = models.ForeignKey(Party, on_delete=protect, related_name="leases")
    port = models.PositiveIntegerField()
    run = models.ForeignKey(PartyRun, on_delete=models.CASCADE, related_name="leases")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["party", "port"], name="a_port_is_leased_once")]

    def __str__(self) -> str:
        return f"{self.party_id}:{self.port}"
