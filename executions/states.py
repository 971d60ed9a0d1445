"""The states of an execution, the one table of allowed changes, and the one function that makes a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.utils import timezone

if TYPE_CHECKING:
    from executions.models import Execution
    from executions.pipeline_models import PipelineRun


class Status(models.TextChoices):
    AWAITING_APPROVAL = "AWAITING_APPROVAL", "awaiting approval"
    QUEUED = "QUEUED", "queued"
    DISPATCHED = "DISPATCHED", "dispatched"
    RUNNING = "RUNNING", "running"
    RETRY = "RETRY", "waiting to retry"
    CANCELLING = "CANCELLING", "cancelling"
    SUCCESS = "SUCCESS", "success"
    FAILURE = "FAILURE", "failure"
    CANCELLED = "CANCELLED", "cancelled"


class RunStatus(models.TextChoices):
    """Of one attempt at one party. Only ever changes from top to bottom."""

    DISPATCHED = "DISPATCHED", "dispatched"
    RUNNING = "RUNNING", "running"
    SUCCESS = "SUCCESS", "success"
    FAILURE = "FAILURE", "failure"
    STOPPED = "STOPPED", "stopped"
    LOST = "LOST", "lost"


class PipelineStatus(models.TextChoices):
    """Of a run of a pipeline."""

    RUNNING = "RUNNING", "running"
    CANCELLING = "CANCELLING", "cancelling"
    SUCCESS = "SUCCESS", "success"
    FAILURE = "FAILURE", "failure"
    CANCELLED = "CANCELLED", "cancelled"


#: Of a pipeline's node that has no execution yet: it will get one, or it will not unless something is retried.
WAITING, BLOCKED = "WAITING", "BLOCKED"

ENDED = frozenset({Status.SUCCESS, Status.FAILURE, Status.CANCELLED})
#: Parties may be computing.
ACTIVE = frozenset({Status.DISPATCHED, Status.RUNNING, Status.CANCELLING})
RUN_ENDED = frozenset({RunStatus.SUCCESS, RunStatus.FAILURE, RunStatus.STOPPED, RunStatus.LOST})

PIPELINE_ACTIVE = frozenset({PipelineStatus.RUNNING, PipelineStatus.CANCELLING})

TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.AWAITING_APPROVAL: frozenset({Status.QUEUED, Status.CANCELLED}),
    # Without having run: a party never had a worker in time, or its host's checks failed
    Status.QUEUED: frozenset({Status.DISPATCHED, Status.CANCELLED, Status.FAILURE, Status.RETRY}),
    # SUCCESS straight away: all events of a short run can arrive in one batch
    Status.DISPATCHED: frozenset({Status.RUNNING, Status.SUCCESS, Status.FAILURE, Status.RETRY, Status.CANCELLING}),
    Status.RUNNING: frozenset({Status.SUCCESS, Status.FAILURE, Status.RETRY, Status.CANCELLING}),
    Status.RETRY: frozenset({Status.QUEUED, Status.CANCELLED}),
    Status.CANCELLING: frozenset({Status.CANCELLED}),
    Status.SUCCESS: frozenset(),
    Status.FAILURE: frozenset(),
    Status.CANCELLED: frozenset(),
}

PIPELINE_TRANSITIONS: dict[PipelineStatus, frozenset[PipelineStatus]] = {
    PipelineStatus.RUNNING: frozenset(
        {PipelineStatus.SUCCESS, PipelineStatus.FAILURE, PipelineStatus.CANCELLING, PipelineStatus.CANCELLED}
    ),
    PipelineStatus.CANCELLING: frozenset({PipelineStatus.CANCELLED}),
    PipelineStatus.SUCCESS: frozenset(),
    # A node that failed or was cancelled is retried
    PipelineStatus.FAILURE: frozenset({PipelineStatus.RUNNING}),
    PipelineStatus.CANCELLED: frozenset({PipelineStatus.RUNNING}),
}


def transition(execution: Execution, to: Status, *, why: str = "", by: Any = None, **fields: Any) -> bool:
    """Move an execution to another state, if it still is in the state it was read in. The only writer of ``status``.

    One conditional UPDATE, so that of two who try only one succeeds, and one StateChange row in the same
    transaction. ``fields`` are set along with it, ``by`` is the user who asked. Returns whether it happened;
    on success ``execution`` shows the new state. Raises ValueError for a change that the table does not have.
    """
    from executions.models import Execution, StateChange

    source = Status(execution.status)
    if to not in TRANSITIONS[source]:
        raise ValueError(f"an execution cannot go from {source} to {to}")
    now = timezone.now()
    if to in ENDED:
        fields.setdefault("ended_at", now)
        fields.setdefault("waiting_for", "")
    with transaction.atomic():
        changed = Execution.objects.filter(pk=execution.pk, status=source, attempt=execution.attempt).update(
            status=to, **fields
        )
        if not changed:
            return False
        StateChange.objects.create(
            execution_id=execution.pk, from_status=source, to_status=to, at=now, why=why[:1000], by=by
        )
    for name, value in fields.items():
        if not hasattr(value, "resolve_expression"):
            setattr(execution, name, value)
    execution.status = to
    return True


def move(run: PipelineRun, to: PipelineStatus, *, why: str = "", by: Any = None, **fields: Any) -> bool:
    """The same as ``transition``, of a pipeline run."""
    from executions.pipeline_models import PipelineChange, PipelineRun

    source = PipelineStatus(run.status)
    if to not in PIPELINE_TRANSITIONS[source]:
        raise ValueError(f"a pipeline run cannot go from {source} to {to}")
    now = timezone.now()
    if to not in PIPELINE_ACTIVE:
        fields.setdefault("ended_at", now)
    with transaction.atomic():
        if not PipelineRun.objects.filter(pk=run.pk, status=source).update(status=to, **fields):
            return False
        PipelineChange.objects.create(run_id=run.pk, from_status=source, to_status=to, at=now, why=why[:1000], by=by)
    run.status = to
    return True
