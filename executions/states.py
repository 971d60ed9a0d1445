"""The states of executions, party runs and pipeline runs: their colours, the one table of changes, what makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models
from django.db.transaction import atomic
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Status(models.TextChoices):
    AWAITING_APPROVAL = "AWAITING_APPROVAL", _("awaiting approval")
    QUEUED = "QUEUED", _("queued")
    DISPATCHED = "DISPATCHED", _("dispatched")
    RUNNING = "RUNNING", _("running")
    RETRY = "RETRY", _("retry")
    CANCELLING = "CANCELLING", _("cancelling")
    SUCCESS = "SUCCESS", _("success")
    FAILURE = "FAILURE", _("failure")
    CANCELLED = "CANCELLED", _("cancelled")


class RunStatus(models.TextChoices):
    """The status of one attempt at one party."""

    DISPATCHED = "DISPATCHED", _("dispatched")
    RUNNING = "RUNNING", _("running")
    SUCCESS = "SUCCESS", _("success")
    FAILURE = "FAILURE", _("failure")
    STOPPED = "STOPPED", _("stopped")
    LOST = "LOST", _("lost")


class PipelineStatus(models.TextChoices):
    """The status of a run of a pipeline."""

    RUNNING = "RUNNING", _("running")
    CANCELLING = "CANCELLING", _("cancelling")
    SUCCESS = "SUCCESS", _("success")
    FAILURE = "FAILURE", _("failure")
    CANCELLED = "CANCELLED", _("cancelled")


#: Colour of the badge of each status.
COLOURS: dict[str, str] = {
    Status.AWAITING_APPROVAL: "warning",
    Status.QUEUED: "primary",
    Status.DISPATCHED: "info",
    Status.RUNNING: "info",
    Status.RETRY: "warning",
    Status.CANCELLING: "warning",
    Status.SUCCESS: "success",
    Status.FAILURE: "danger",
    Status.CANCELLED: "default",
    RunStatus.STOPPED: "warning",
    RunStatus.LOST: "danger",
}
#: The same for the columns of lists, which give a status with its word in the reader's language.
BADGES = {str(status): COLOURS[status] for status in (*Status, *PipelineStatus)}

#: States of a pipeline's node without an execution: it will get one, or only if something is retried.
WAITING, BLOCKED = "WAITING", "BLOCKED"

ENDED = frozenset({Status.SUCCESS, Status.FAILURE, Status.CANCELLED})
#: Statuses of executions that have not ended, in their order.
OPEN = tuple(status for status in Status if status not in ENDED)
#: Statuses in which parties may be computing.
ACTIVE = frozenset({Status.DISPATCHED, Status.RUNNING, Status.CANCELLING})
RUN_ENDED = frozenset({RunStatus.SUCCESS, RunStatus.FAILURE, RunStatus.STOPPED, RunStatus.LOST})

PIPELINE_ACTIVE = frozenset({PipelineStatus.RUNNING, PipelineStatus.CANCELLING})

#: For each kind of status: the statuses that may follow each one.
TRANSITIONS: Mapping[Any, Mapping[Any, frozenset[Any]]] = {
    Status: {
        # FAILURE: a party refused it
        Status.AWAITING_APPROVAL: frozenset({Status.QUEUED, Status.CANCELLED, Status.FAILURE}),
        # Without having run: a party never had a worker in time, its host's checks failed, or it asks for an approval
        Status.QUEUED: frozenset(
            {Status.DISPATCHED, Status.CANCELLED, Status.FAILURE, Status.RETRY, Status.AWAITING_APPROVAL}
        ),
        # SUCCESS straight away: all events of a short run can arrive in one batch
        Status.DISPATCHED: frozenset({Status.RUNNING, Status.SUCCESS, Status.FAILURE, Status.RETRY, Status.CANCELLING}),
        Status.RUNNING: frozenset({Status.SUCCESS, Status.FAILURE, Status.RETRY, Status.CANCELLING}),
        Status.RETRY: frozenset({Status.QUEUED, Status.CANCELLED}),
        Status.CANCELLING: frozenset({Status.CANCELLED}),
        Status.SUCCESS: frozenset(),
        Status.FAILURE: frozenset(),
        Status.CANCELLED: frozenset(),
    },
    RunStatus: {
        # SUCCESS and FAILURE straight away: all events of a short run can arrive in one batch
        RunStatus.DISPATCHED: frozenset({RunStatus.RUNNING, *RUN_ENDED}),
        RunStatus.RUNNING: RUN_ENDED,
        RunStatus.SUCCESS: frozenset(),
        RunStatus.FAILURE: frozenset(),
        RunStatus.STOPPED: frozenset(),
        RunStatus.LOST: frozenset(),
    },
    PipelineStatus: {
        PipelineStatus.RUNNING: frozenset(
            {PipelineStatus.SUCCESS, PipelineStatus.FAILURE, PipelineStatus.CANCELLING, PipelineStatus.CANCELLED}
        ),
        PipelineStatus.CANCELLING: frozenset({PipelineStatus.CANCELLED}),
        PipelineStatus.SUCCESS: frozenset(),
        # A node that failed or was cancelled is retried
        PipelineStatus.FAILURE: frozenset({PipelineStatus.RUNNING}),
        PipelineStatus.CANCELLED: frozenset({PipelineStatus.RUNNING}),
    },
}


def transition(record: Any, to: Any, *, why: str = "", by: Any = None, **fields: Any) -> bool:
    """Move an execution or a pipeline run to another state, if it still is in the state in which it was read.

    Nothing else writes their ``status``: one conditional UPDATE, so that of two who try only one succeeds; one row of
    ``changes``, and the totals of the metrics, in the same transaction. ``fields`` are set along with it, ``by`` is the
    user who asked. Returns whether it happened; on success ``record`` shows the new state. Raises ValueError for a
    change that the table does not have.
    """
    kind = record.STATUSES
    source = kind(record.status)
    if to not in TRANSITIONS[kind][source]:
        raise ValueError(f"{record._meta.verbose_name} cannot go from {source} to {to}")
    now = timezone.now()
    if to in ENDED:
        fields = {"ended_at": now} | record.cleared_at_end | fields
    with atomic():
        found = type(record).objects.filter(pk=record.pk, status=source, **record.read_as())
        if not found.update(status=to, **fields):
            return False
        changes = record.changes
        changes.model.objects.create(
            **{changes.field.name: record}, from_status=source, to_status=to, at=now, why=why[:1000], by=by
        )
        record.count(to, now, fields)
    for name, value in fields.items():
        if not hasattr(value, "resolve_expression"):
            setattr(record, name, value)
    record.status = to
    return True


def before(to: RunStatus) -> frozenset[RunStatus]:
    """Return the statuses of a party run from which it may go to this one."""
    return frozenset(status for status, following in TRANSITIONS[RunStatus].items() if to in following)


def set_run_status(run: Any, to: RunStatus) -> bool:
    """Set the status of a party run, if the table allows the change. Returns whether it did.

    The caller holds the run locked and stores it: the listener stores many at once.
    """
    if run.status not in before(to):
        return False
    run.status = to
    return True
