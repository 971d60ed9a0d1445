"""Pipelines and schedules as they were run."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from controlplane.models import PartySet, Pipeline, Schedule, Task
from executions.models.execution import Execution
from executions.models.submission import Change, Submission
from executions.redis import wake_coordinator
from executions.states import BLOCKED, ENDED, PIPELINE_ACTIVE, WAITING, PipelineStatus, Status, transition

#: Reason why a node whose turn it is has no execution yet.
READY = "is ready; a running coordinator starts it within a second"


class NotPossible(Exception):
    """The state of the pipeline run does not allow it; the message says why."""


class PipelineRunQuerySet(models.QuerySet["PipelineRun"]):
    def submit(self, pipeline: Pipeline, *, by: Any = None) -> PipelineRun:
        """Check a whole pipeline, freeze it, and make a run of it. Raises DocumentsInvalid with every problem.

        Needs the database only: the coordinator makes the executions.
        """
        steps = pipeline.steps()
        now = timezone.now()
        with transaction.atomic():
            parties = {party for step in steps for party in step.documents["sf_init_config"]["parties"]}
            run = self.create(
                name=pipeline.name,
                pipeline=pipeline,
                submitted_by=by,
                created_at=now,
                party_set=PartySet.of(parties),
            )
            NodeRun.objects.bulk_create(
                NodeRun(
                    run=run,
                    name=step.name,
                    position=position,
                    task=step.task,
                    task_name=step.task.name,
                    documents=step.documents,
                    options=step.task.options(),
                    waits_for=step.waits_for,
                )
                for position, step in enumerate(steps)
            )
            PipelineChange.objects.create(run=run, to_status=run.status, at=now, why=gettext_noop("submitted"), by=by)
            transaction.on_commit(wake_coordinator)
        return run

    def active(self) -> PipelineRunQuerySet:
        return self.filter(status__in=PIPELINE_ACTIVE)


class PipelineRun(Submission):
    """One run of a pipeline, frozen: later edits of the pipeline or its tasks never change it.

    The permissions to view, start and cancel executions apply to pipeline runs, too.
    """

    STATUSES = PipelineStatus

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    pipeline = models.ForeignKey(
        Pipeline,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="runs",
        db_index=False,  # an index of several fields begins with it
    )
    status = models.CharField(max_length=20, choices=PipelineStatus.choices, default=PipelineStatus.RUNNING)
    objects = PipelineRunQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="pipelinerun_newest_first"),
            models.Index(fields=["status", "-created_at", "-id"], name="pipelinerun_by_status"),
            models.Index(fields=["pipeline", "-created_at", "-id"], name="pipelinerun_by_pipeline"),
            models.Index(fields=["name", "-created_at", "-id"], name="pipelinerun_by_name"),
            models.Index(fields=["party_set", "-created_at", "-id"], name="pipelinerun_by_parties"),
            models.Index(fields=["submitted_by", "-created_at", "-id"], name="pipelinerun_by_submitter"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.short}"

    def involved(self) -> set[str] | None:
        """Return the names of the parties of all nodes; None if they are not known."""
        return set(self.party_set.names) if self.party_set else None

    def node_states(self) -> list[NodeState]:
        """Return the state of each node, in their order. Takes two queries."""
        rows = self.nodes.select_related("execution").defer(
            "documents", "options", "execution__documents", "execution__result"
        )
        every = models.Prefetch("executions", Execution.objects.only("created_at", "node"))
        return node_states(self.status, rows.order_by("position").prefetch_related(every))

    def cancel(self, by: Any = None) -> None:
        """Cancel the whole run. May be repeated. Raises NotPossible once it has ended.

        The coordinator cancels the executions.
        """
        with transaction.atomic():
            run = PipelineRun.objects.select_for_update(of=("self",)).get(pk=self.pk)
            if run.status == PipelineStatus.RUNNING:
                who = f"cancelled by {by}" if by else "cancelled"
                transition(run, PipelineStatus.CANCELLING, why=who, by=by)
                transaction.on_commit(wake_coordinator)
            elif run.has_ended and run.status != PipelineStatus.CANCELLED:
                raise NotPossible(f"The pipeline run has already ended with {run.status}; there is nothing to cancel.")
        self.status = run.status

    def retry(self, names: Iterable[str] = (), by: Any = None) -> list[str]:
        """Run again the nodes that failed or were cancelled (all of them if none is named), and continue from there.
        Nodes that succeeded do not run again. Returns the names of the nodes. Raises NotPossible.
        """
        with transaction.atomic():
            run = PipelineRun.objects.select_for_update(of=("self",)).get(pk=self.pk)
            if run.status in (PipelineStatus.SUCCESS, PipelineStatus.CANCELLING):
                raise NotPossible(f"The pipeline run is {run.status}; there is nothing to retry.")
            found = {node.name: node for node in run.node_states()}
            names = list(names)
            if unknown := [name for name in names if name not in found]:
                raise NotPossible(f"There is no node {unknown[0]!r} in this run; known: {', '.join(found)}.")
            for name in names:
                if not found[name].can_be_retried:
                    state = found[name].state
                    raise NotPossible(f"Node {name} is {state}; only what failed or was cancelled can be retried.")
            again = names or [name for name, node in found.items() if node.can_be_retried]
            never_begun = run.status == PipelineStatus.CANCELLED and any(n.execution is None for n in found.values())
            if not again and not never_begun:
                raise NotPossible("No node has failed; there is nothing to retry.")
            run.nodes.filter(name__in=again).update(execution=None, error="")
            if run.status != PipelineStatus.RUNNING:
                why = f"retry of {', '.join(again)}" if again else "goes on"
                transition(run, PipelineStatus.RUNNING, why=why, by=by, ended_at=None)
            transaction.on_commit(wake_coordinator)
        self.status = run.status
        return again


class NodeRun(models.Model):
    """A node of a pipeline run: the frozen documents, and the execution of them, once all nodes that it waits for have
    succeeded."""

    run = models.ForeignKey(PipelineRun, on_delete=models.CASCADE, related_name="nodes")
    name = models.CharField(max_length=32)
    position = models.PositiveSmallIntegerField(
        help_text=_("Position in the order; each node comes after those that it waits for.")
    )
    task = models.ForeignKey(Task, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    task_name = models.CharField(max_length=100)
    documents = models.JSONField(default=dict)
    options = models.JSONField(default=dict)
    waits_for = models.JSONField(default=dict, help_text=_("Maps each node that it waits for to the reason."))
    execution = models.OneToOneField(
        "executions.Execution", on_delete=models.SET_NULL, null=True, blank=True, related_name="current_node"
    )
    error = models.TextField(blank=True, help_text=_("Reason why no execution could be made."))

    class Meta:
        default_permissions = ()
        ordering = ["run", "position"]
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="a_node_runs_once_per_run")]

    def __str__(self) -> str:
        return f"{self.name} of {self.run_id}"


@dataclass(frozen=True, slots=True)
class NodeState:
    """The state of a node: that of its execution, or why it has none."""

    node: NodeRun
    #: A Status of executions, WAITING, or BLOCKED.
    state: str
    #: Why it waits or failed; empty if there is nothing to say.
    why: str
    #: Whether all nodes that it waits for have succeeded, and it has no execution yet.
    is_startable: bool = False

    @property
    def execution(self) -> Any:
        return self.node.execution

    @property
    def name(self) -> str:
        return self.node.name

    def earlier(self) -> list[uuid.UUID]:
        """Return its executions before the latest retry, oldest first. ``PipelineRun.node_states`` prefetches them."""
        made = sorted(self.node.executions.all(), key=lambda execution: execution.created_at)
        return [execution.pk for execution in made if execution.pk != self.node.execution_id]

    @property
    def is_settled(self) -> bool:
        """Return whether nothing will happen to it, unless it or a node that it waits for is retried."""
        return self.state in ENDED or self.state == BLOCKED

    @property
    def can_be_retried(self) -> bool:
        return self.state in (Status.FAILURE, Status.CANCELLED)


def node_states(status: str, nodes: Iterable[NodeRun]) -> list[NodeState]:
    """Return the state of each of ``nodes``: those of one run, in their order, with their executions. ``status``: the
    run's."""
    states: dict[str, str] = {}
    found = []
    for node in nodes:
        state, why = _state_of(node, status, states)
        states[node.name] = state
        found.append(NodeState(node, state, why, is_startable=why == READY))
    return found


def _state_of(node: NodeRun, status: str, states: dict[str, str]) -> tuple[str, str]:
    if node.error:
        return Status.FAILURE, node.error
    if node.execution:
        return node.execution.status, node.execution.error or node.execution.waiting_reason
    if status in (PipelineStatus.CANCELLING, PipelineStatus.CANCELLED):
        return BLOCKED, "the run was cancelled before it began"
    stuck = [name for name in node.waits_for if states.get(name) in (Status.FAILURE, Status.CANCELLED, BLOCKED)]
    if stuck:
        said = ", ".join(f"{name} ({states[name].lower()})" for name in stuck)
        return BLOCKED, f"waits for {said}; retry what failed to go on"
    pending = [name for name in node.waits_for if states.get(name) != Status.SUCCESS]
    return WAITING, f"waits for {', '.join(pending)}" if pending else READY


class PipelineChange(Change):
    """One change of a pipeline run's state."""

    STATUSES = PipelineStatus

    run = models.ForeignKey(PipelineRun, on_delete=models.CASCADE, related_name="changes")

    class Meta:
        default_permissions = ()
        ordering = ["run", "at", "pk"]


class Tick(models.Model):
    """A time at which a schedule was due, with the run that it started, or the reason why there is none."""

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="ticks")
    due_at = models.DateTimeField()
    at = models.DateTimeField(default=timezone.now)
    execution = models.ForeignKey(
        "executions.Execution", on_delete=models.SET_NULL, null=True, blank=True, related_name="ticks"
    )
    pipeline_run = models.ForeignKey(
        PipelineRun,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="ticks",
        db_index=False,  # one of those that have a run serves better: most have none
    )
    skipped = models.TextField(blank=True, help_text=_("Reason why nothing was started."))

    class Meta:
        default_permissions = ()
        ordering = ["-due_at"]
        constraints = [models.UniqueConstraint(fields=["schedule", "due_at"], name="a_time_comes_once")]
        indexes = [
            models.Index(
                fields=["pipeline_run"], condition=models.Q(pipeline_run__isnull=False), name="ticks_of_pipeline_runs"
            )
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id} at {self.due_at:%Y-%m-%d %H:%M} UTC"

    @property
    def started(self) -> Any:
        return self.execution or self.pipeline_run
