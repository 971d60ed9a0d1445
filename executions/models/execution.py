"""Executions: one submission of four documents each."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from controlplane import request_id
from controlplane.documents.encryption import protect_all
from controlplane.models import Parties, PartySet, RunOptions, Task
from controlplane.models.catalogue import DatabaseCatalogue
from executions.models.hour import Hour
from executions.models.label import Label
from executions.models.notification import Happening
from executions.models.submission import Change, Submission
from executions.models.total import count_change
from executions.redis import call_off, wake_coordinator
from executions.states import ACTIVE, ENDED, Status, transition
from workers.contract.validation import validate

if TYPE_CHECKING:
    from executions.models.pipeline_run import NodeRun

#: A coordinator looks at everything that is queued at least once a second.
COORDINATOR_NOTICES_WITHIN = timedelta(seconds=5)


class NotCancellable(Exception):
    """The execution has already ended, so it cannot be cancelled."""


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
        within: Parties = None,
        labels: Mapping[str, str] | None = None,
        deadline: datetime | None = None,
    ) -> Execution:
        """Validate the documents, freeze them, and queue an execution of them; ``options``: by the names of RunOptions.

        A masked secret is taken from the documents ``before``. ``node``: the pipeline's node that it runs for.
        ``within``: the parties that may be named; None for all. ``deadline``: when it fails unless it has ended.
        Raises workers.contract.problems.DocumentsInvalid with every problem. Needs the database only: the coordinator
        dispatches when Redis and the parties' workers are there.
        """
        run = validate(documents, DatabaseCatalogue(within))
        kept = protect_all(documents, before or {})
        now = timezone.now()
        with transaction.atomic():
            execution = self.create(
                name=name or (task.name if task else ""),
                task=task,
                task_type=run.task.task_type,
                parties=run.cluster.parties,
                party_set=PartySet.of(run.cluster.parties),
                documents=kept,
                submitted_by=by,
                node=node,
                **(options or {}),
                created_at=now,
                queued_at=now,
                labels=dict(labels or {}),
                deadline=deadline,
                request_id=request_id.current(),
            )
            Label.keep(execution)
            StateChange.objects.create(
                execution=execution,
                from_status="",
                to_status=Status.QUEUED,
                at=now,
                why=gettext_noop("submitted"),
                by=by,
            )
            Happening.note(execution, Status.QUEUED, now)
            transaction.on_commit(wake_coordinator)
        return execution

    def active(self) -> ExecutionQuerySet:
        return self.filter(status__in=ACTIVE)


class Execution(Submission, RunOptions):
    """One submission of four documents, frozen: later edits of a task or a party never change it."""

    STATUSES = Status
    cleared_at_end = MappingProxyType({"waiting_for": ""})

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, blank=True)
    task = models.ForeignKey(
        Task,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="executions",
        db_index=False,  # an index of several fields begins with it
    )
    node = models.ForeignKey(
        "executions.NodeRun",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="executions",
        help_text=_("Pipeline node that it runs."),
    )
    task_type = models.CharField(max_length=64)
    parties = models.JSONField(default=list, help_text=_("Names of the parties, in the cluster's order."))
    documents = models.JSONField(default=dict, help_text=_("The documents as submitted, by layer."))
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.QUEUED)
    attempt = models.PositiveIntegerField(default=0, help_text=_("Rises by one with each dispatch."))
    stage = models.CharField(max_length=32, blank=True)
    progress = models.FloatField(default=0, help_text=_("Progress of the slowest party's computation, 0 to 1."))
    waiting_for = models.CharField(max_length=500, blank=True, help_text=_("Reason why it is waiting."))
    retries = models.JSONField(default=dict, help_text=_("Retries taken so far, by error class."))

    labels = models.JSONField(default=dict, blank=True, help_text=_("Keys and values by which lists are filtered."))
    deadline = models.DateTimeField(null=True, blank=True, help_text=_("It fails unless it has ended by then."))
    queued_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField(null=True, blank=True, help_text=_("Time at which a retry is due."))
    dispatched_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(
        null=True, blank=True, help_text=_("Time at which the first party began, in the latest attempt.")
    )

    error = models.TextField(blank=True)
    error_type = models.CharField(max_length=64, blank=True)
    error_party = models.CharField(max_length=32, blank=True)
    error_stage = models.CharField(max_length=32, blank=True)
    result = models.JSONField(default=dict, blank=True)
    request_id = models.CharField(max_length=64, blank=True, help_text=_("Id of the request that submitted it."))
    has_warnings = models.BooleanField(default=False, editable=False, help_text=_("Whether its result has warnings."))

    objects = ExecutionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            # In the order of the lists, with each of their filters: a page then takes as many rows as it shows
            models.Index(fields=["-created_at", "-id"], name="execution_newest_first"),
            models.Index(fields=["status", "-created_at", "-id"], name="execution_by_status"),
            models.Index(fields=["task", "-created_at", "-id"], name="execution_by_task"),
            models.Index(fields=["task_type", "-created_at", "-id"], name="execution_by_task_type"),
            models.Index(fields=["name", "-created_at", "-id"], name="execution_by_name"),
            models.Index(fields=["party_set", "-created_at", "-id"], name="execution_by_parties"),
            models.Index(fields=["submitted_by", "-created_at", "-id"], name="execution_by_submitter"),
            models.Index(
                fields=["-created_at", "-id"],
                name="executions_with_warnings",
                condition=models.Q(has_warnings=True),
            ),
            models.Index(
                fields=["deadline"],
                name="executions_with_deadlines",
                condition=models.Q(deadline__isnull=False, ended_at=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name or self.task_type} {self.short}"

    def involved(self) -> set[str]:
        """Return the names of the parties."""
        return set(self.parties)

    def read_as(self) -> dict[str, Any]:
        return {"attempt": self.attempt}

    def count(self, to: Any, at: datetime, fields: Mapping[str, Any]) -> None:
        count_change(self, to, at, fields)
        if to in ENDED:
            Hour.add(self, to, at, fields)
        Happening.note(self, to, at)

    @property
    def _began_at(self) -> datetime | None:
        """Return when the first party began in the latest attempt; None if none has, also between two attempts."""
        began = self.started_at
        if began is None or self.status in (Status.AWAITING_APPROVAL, Status.QUEUED, Status.RETRY):
            return None
        # It ended while it was queued for another attempt
        return None if self.created_at < self.queued_at and began < self.queued_at else began

    @property
    def waited(self) -> timedelta | None:
        """Return how long it waited until the first party began; until its end, or now, if none has.

        Counts from the submission; of a later attempt, from when it was queued again. None while a retry is not due.
        Reads fields of its own alone.
        """
        began = self._began_at
        if self.status == Status.RETRY and self.attempt:
            return None
        was_dispatched = self.dispatched_at is not None and self.dispatched_at < self.queued_at
        since = self.queued_at if self.attempt > 1 or was_dispatched else self.created_at
        return max((began or self.ended_at or timezone.now()) - since, timedelta())  # clocks of two hosts differ

    @property
    def ran(self) -> timedelta | None:
        """Return how long the latest attempt ran, from the first party's start to the end, or to now; None if no party
        has begun. Reads fields of its own alone."""
        began = self._began_at
        return max((self.ended_at or timezone.now()) - began, timedelta()) if began else None

    @property
    def waiting_reason(self) -> str:
        """Return why it is waiting, also if no coordinator has noted a reason yet."""
        ignored = self.status == Status.QUEUED and timezone.now() - self.queued_at > COORDINATOR_NOTICES_WITHIN
        if ignored and not self.waiting_for:
            return "no coordinator has looked at it yet; is `manage.py coordinate` running?"
        return self.waiting_for

    def submit_again(
        self,
        by: Any = None,
        *,
        documents: Mapping[str, Any] | None = None,
        name: str | None = None,
        options: Mapping[str, int] | None = None,
        within: Parties = None,
        labels: Mapping[str, str] | None = None,
        deadline: datetime | None = None,
    ) -> Execution:
        """Submit and return a new execution of the same documents, with some of them, the name, labels or options
        changed. ``within``: the parties that may be named. Raises DocumentsInvalid if the documents are not valid (any
        more).
        """
        changed = dict(self.documents) | dict(documents or {})
        return Execution.objects.submit(
            changed,
            task=self.task if changed == self.documents else None,  # with other documents it is no longer that task's
            by=by,
            name=self.name if name is None else name,
            options=self.options() | dict(options or {}),
            before=self.documents,
            within=within,
            labels=self.labels if labels is None else labels,
            deadline=deadline,
        )

    def cancel(self, by: Any = None) -> None:
        """Cancel it, whatever its state. May be repeated. Raises NotCancellable once it has ended."""
        who = f"cancelled by {by}" if by else "cancelled"
        for _attempt in range(10):  # another process may change it between our read and our write
            self.refresh_from_db()
            if self.status == Status.CANCELLED or self.status == Status.CANCELLING:
                return
            if self.has_ended:
                raise NotCancellable(f"The execution has already ended with {self.status}; there is nothing to cancel.")
            to = Status.CANCELLING if self.status in ACTIVE else Status.CANCELLED
            no_error = dict.fromkeys(("error", "error_type", "error_party", "error_stage"), "")
            if transition(self, to, why=who, by=by, **no_error):
                if newest := self.preflights.first():
                    transaction.on_commit(partial(call_off, newest.pk))
                transaction.on_commit(wake_coordinator)
                return
        raise NotCancellable("The execution changes too fast to be cancelled; try again.")


class StateChange(Change):
    """One change of an execution's state."""

    STATUSES = Status

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="changes")

    class Meta:
        ordering = ["execution", "at", "pk"]
