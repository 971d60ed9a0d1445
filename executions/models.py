"""What was run: executions, what each party did in each attempt, and every event they sent."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from controlplane.documents.encryption import protect_all
from controlplane.models import Party, RunOptions, Task
from controlplane.models.catalogue import DatabaseCatalogue
from executions.states import ACTIVE, ENDED, RunStatus, Status, transition
from workers.contract.validation import validate

#: A coordinator looks at everything that is queued at least once a second.
COORDINATOR_NOTICES_WITHIN = timedelta(seconds=5)


class NotCancellable(Exception):
    """The execution has already ended."""


class ExecutionQuerySet(models.QuerySet["Execution"]):
    def submit(
        self,
        documents: Mapping[str, Any],
        *,
        task: Task | None = None,
        by: Any = None,
        name: str = "",
        options: Mapping[str, int] | None = None,
        before: Mapping[str, Any] | None = None,
        node: NodeRun | None = None,
    ) -> Execution:
        """Validate the documents, freeze them, and queue an execution of them; ``options`` by RunOptions' names.

        A secret that is masked is the one in the documents ``before``; ``node``: the pipeline's that it is run for.
        Raises workers.contract.problems.DocumentsInvalid with every problem. Needs the database only: the coordinator
        dispatches when Redis and the parties' workers are there.
        """
        from executions.wakeup import wake_coordinator

        run = validate(documents, DatabaseCatalogue())
        kept = protect_all(documents, before or {})
        now = timezone.now()
        with transaction.atomic():
            execution = self.create(
                name=name or (task.name if task else ""),
                task=task,
                task_type=run.task.task_type,
                parties=run.cluster.parties,
                documents=kept,
                submitted_by=by,
                node=node,
                **(options or {}),
                created_at=now,
                queued_at=now,
            )
            StateChange.objects.create(
                execution=execution, from_status="", to_status=Status.QUEUED, at=now, why="submitted", by=by
            )
            transaction.on_commit(wake_coordinator)
        return execution

    def active(self) -> ExecutionQuerySet:
        return self.filter(status__in=ACTIVE)


class Execution(RunOptions):
    """One submission of four documents, frozen: later edits of a task or a party never change it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, blank=True)
    task = models.ForeignKey(Task, on_delete=models.SET_NULL, null=True, blank=True, related_name="executions")
    node = models.ForeignKey(
        "executions.NodeRun",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="executions",
        help_text="The pipeline's node that it was run for, the first time or again.",
    )
    task_type = models.CharField(max_length=64)
    parties = models.JSONField(default=list, help_text="Names, in the cluster's order.")
    documents = models.JSONField(default=dict, help_text="The documents as submitted, by layer.")
    submitted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    status = models.CharField(max_length=20, choices=Status.choices, default=Status.QUEUED)
    attempt = models.PositiveIntegerField(default=0, help_text="Rises by one with each dispatch.")
    stage = models.CharField(max_length=32, blank=True)
    progress = models.FloatField(default=0, help_text="Of the computation, 0 to 1: the slowest party's.")
    waiting_for = models.CharField(max_length=500, blank=True, help_text="Why it does not get on.")
    retries = models.JSONField(default=dict, help_text="Retries taken so far, by error class.")

    created_at = models.DateTimeField(default=timezone.now)
    queued_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField(null=True, blank=True, help_text="When a retry is due.")
    dispatched_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True, help_text="First party at work, in the latest attempt.")
    ended_at = models.DateTimeField(null=True, blank=True)

    error = models.TextField(blank=True)
    error_type = models.CharField(max_length=64, blank=True)
    error_party = models.CharField(max_length=32, blank=True)
    error_stage = models.CharField(max_length=32, blank=True)
    result = models.JSONField(default=dict, blank=True)

    objects = ExecutionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["status"], name="execution_by_status"),
            models.Index(fields=["-created_at"], name="execution_newest_first"),
        ]

    def __str__(self) -> str:
        return f"{self.name or self.task_type} {str(self.pk)[:8]}"

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def waiting_reason(self) -> str:
        """Why it does not get on; also where nobody has looked at it, which nobody could have noted."""
        ignored = self.status == Status.QUEUED and timezone.now() - self.queued_at > COORDINATOR_NOTICES_WITHIN
        if ignored and not self.waiting_for:
            return "no coordinator has looked at it yet; is `manage.py coordinate` running?"
        return self.waiting_for

    @property
    def seconds(self) -> float | None:
        """From submission to the end."""
        return (self.ended_at - self.created_at).total_seconds() if self.ended_at else None

    def submit_again(
        self,
        by: Any = None,
        *,
        documents: Mapping[str, Any] | None = None,
        name: str | None = None,
        options: Mapping[str, int] | None = None,
    ) -> Execution:
        """A new execution of the same documents, or with some of them, its name or options changed.

        Raises DocumentsInvalid where the documents are not, or no longer, right.
        """
        changed = dict(self.documents) | dict(documents or {})
        return Execution.objects.submit(
            changed,
            task=self.task if changed == self.documents else None,  # otherwise it is not what that task says
            by=by,
            name=self.name if name is None else name,
            options=self.options() | dict(options or {}),
            before=self.documents,
        )

    def cancel(self, by: Any = None) -> None:
        """Stop it wherever it is; harmless to repeat. Raises NotCancellable once it has ended."""
        from executions.preflight import call_off
        from executions.wakeup import wake_coordinator

        who = f"cancelled by {by}" if by else "cancelled"
        for _ in range(10):  # another process may move it between our read and our write
            self.refresh_from_db()
            if self.status == Status.CANCELLED or self.status == Status.CANCELLING:
                return
            if self.has_ended:
                raise NotCancellable(f"The execution has already ended with {self.status}; there is nothing to cancel.")
            to = Status.CANCELLING if self.status in ACTIVE else Status.CANCELLED
            no_error = dict.fromkeys(("error", "error_type", "error_party", "error_stage"), "")
            if transition(self, to, why=who, by=by, **no_error):
                if newest := self.preflights.first():
                    call_off(newest.pk)
                wake_coordinator()
                return
        raise NotCancellable("The execution changes too fast to be cancelled; try again.")


class PartyRun(models.Model):
    """One attempt of an execution at one party."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="runs")
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="runs")
    attempt = models.PositiveIntegerField()
    job_id = models.CharField(max_length=120, unique=True)
    ports = models.JSONField(default=list, help_text="Leased for this attempt.")

    status = models.CharField(max_length=20, choices=RunStatus.choices, default=RunStatus.DISPATCHED)
    stage = models.CharField(max_length=32, blank=True)
    progress = models.FloatField(default=0)
    devices = models.JSONField(default=list, help_text="Devices brought up so far.")
    worker = models.CharField(max_length=200, blank=True)
    last_sequence = models.PositiveIntegerField(default=0, help_text="Newest event applied.")

    dispatched_at = models.DateTimeField(default=timezone.now)
    enqueued_at = models.DateTimeField(
        null=True, blank=True, help_text="When its job was known to be in Redis: until then it is enqueued again."
    )
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    stop_requested_at = models.DateTimeField(null=True, blank=True)
    released_at = models.DateTimeField(
        null=True, blank=True, help_text="When its slot and ports were free again: its process is gone."
    )

    error = models.TextField(blank=True)
    error_type = models.CharField(max_length=64, blank=True)
    caused_by_peer = models.BooleanField(default=False, help_text="The error only echoes a peer's.")
    crashed = models.BooleanField(default=False, help_text="Its process crashed: perhaps because a peer went away.")
    result = models.JSONField(default=dict, blank=True)
    execution_seconds = models.FloatField(null=True, blank=True, help_text="As the party measured it.")

    class Meta:
        ordering = ["execution", "attempt", "party__name"]
        constraints = [
            models.UniqueConstraint(fields=["execution", "attempt", "party"], name="one_run_per_attempt_and_party")
        ]
        indexes = [
            models.Index(fields=["party"], condition=models.Q(released_at__isnull=True), name="partyrun_unreleased")
        ]

    def __str__(self) -> str:
        return f"{self.party.name}, attempt {self.attempt}"


class PortLease(models.Model):
    """A port in use by a run; the row is deleted when the run is released."""

    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="leases")
    port = models.PositiveIntegerField()
    run = models.ForeignKey(PartyRun, on_delete=models.CASCADE, related_name="leases")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["party", "port"], name="a_port_is_leased_once")]

    def __str__(self) -> str:
        return f"{self.party_id}:{self.port}"


class ExecutionEvent(models.Model):
    """A status event as a party sent it (1-contract.md section 3), kept once however often it is delivered."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="events")
    party = models.CharField(max_length=32)
    attempt = models.PositiveIntegerField()
    sequence = models.PositiveIntegerField(help_text="Counts up within a party's attempt.")
    status = models.CharField(max_length=10)
    stage = models.CharField(max_length=32, blank=True)
    timestamp = models.DateTimeField(help_text="The party's clock.")
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
    """A part of an event that came in several, until all of them are there."""

    run = models.ForeignKey(PartyRun, on_delete=models.CASCADE, related_name="pieces")
    sequence = models.PositiveIntegerField(help_text="Of the event.")
    number = models.PositiveIntegerField(help_text="Of this part, from 1.")
    of = models.PositiveIntegerField(help_text="How many there are.")
    content = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "sequence", "number"], name="a_piece_of_an_event_is_kept_once")
        ]

    def __str__(self) -> str:
        return f"{self.number} of {self.of} of event {self.sequence}"


class StateChange(models.Model):
    """One change of an execution's state: when, from, to, why, by whom."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="changes")
    from_status = models.CharField(max_length=20, blank=True)
    to_status = models.CharField(max_length=20)
    at = models.DateTimeField(default=timezone.now)
    why = models.CharField(max_length=1000, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ["execution", "at", "pk"]

    def __str__(self) -> str:
        return f"{self.from_status} to {self.to_status}"


# Registered with Django by being imported from here
from executions.pipeline_models import NodeRun, PipelineChange, PipelineRun, Tick  # noqa: E402, F401
from executions.preflight_models import PartyCheck, Preflight  # noqa: E402, F401
