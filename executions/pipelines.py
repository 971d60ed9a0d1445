"""The coordinator's part in pipelines and schedules: makes the executions that are due, and ends what has ended.

Steps that look at what is there and do one thing about it, each in one transaction: harmless to repeat, safe beside
another coordinator, and nothing is lost where one is killed in between.
"""

from __future__ import annotations

import logging
from datetime import datetime
from itertools import groupby
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from controlplane.models import Schedule, Task
from executions.models import Execution, NodeRun, NotCancellable, PipelineRun, Tick
from executions.pipeline_models import NodeOutlook, outlook
from executions.states import ENDED, PIPELINE_ACTIVE, PipelineStatus, Status, move
from workers.contract.problems import DocumentsInvalid

log = logging.getLogger(__name__)


def step() -> bool:
    """One look at all pipelines and schedules. Returns whether anything was done."""
    done = [advance(run) for run in _to_be_advanced()]
    now = timezone.now()
    due = Schedule.objects.filter(next_run_at__lte=now).order_by("next_run_at").values_list("pk", flat=True)
    done += [fire(schedule, now) for schedule in list(due)]
    return any(done)


def _to_be_advanced() -> list[UUID]:
    """The runs for which there is something to do: one query, however many there are."""
    rows = (
        NodeRun.objects.filter(run__status__in=PIPELINE_ACTIVE)
        .select_related("run", "execution")
        .defer("documents", "options", "execution__documents", "execution__result")
        .order_by("run__created_at", "run_id", "position")
    )
    found = []
    for run, nodes in groupby(rows, key=lambda node: node.run):
        now = outlook(run.status, nodes)
        if run.status == PipelineStatus.CANCELLING or _is_over(now) or any(node.is_startable for node in now):
            found.append(run.pk)
    return found


def _is_over(nodes: list[NodeOutlook]) -> bool:
    return all(node.is_settled for node in nodes)


def advance(pk: UUID) -> bool:
    """Bring a pipeline run in line with its executions. Returns whether anything was done."""
    with transaction.atomic():
        # On PostgreSQL the lock keeps two coordinators apart; on SQLite the transaction itself does
        run = PipelineRun.objects.select_for_update(of=("self",)).filter(pk=pk).first()
        if run is None or run.status not in PIPELINE_ACTIVE:
            return False
        nodes = run.outlook()
        if run.status == PipelineStatus.RUNNING:
            startable = [node for node in nodes if node.is_startable]
            for node in startable:
                _start(run, node)
            if startable:
                return True
        if _is_over(nodes):
            to, why = _end_of(run, nodes)
            return move(run, to, why=why)
    return run.status == PipelineStatus.CANCELLING and _cancel(run, nodes)


def _start(run: PipelineRun, found: NodeOutlook) -> None:
    """Make the execution of a node; where it is refused, the node has failed."""
    node = NodeRun.objects.select_related("task").get(pk=found.node.pk)
    try:
        node.execution = Execution.objects.submit(
            node.documents,
            task=node.task,
            by=run.submitted_by,
            name=f"{run.name}: {node.name}"[:100],
            options=node.options,
            before=node.documents,
            node=node,
        )
    except DocumentsInvalid as error:
        node.error = str(error)
    node.save(update_fields=["execution", "error"])


def _end_of(run: PipelineRun, nodes: list[NodeOutlook]) -> tuple[PipelineStatus, str]:
    """The state in which a run ends whose nodes are all settled, and why."""
    failed = [node.name for node in nodes if node.state == Status.FAILURE]
    cancelled = [node.name for node in nodes if node.state == Status.CANCELLED]
    if run.status == PipelineStatus.CANCELLING:
        return PipelineStatus.CANCELLED, "every execution has stopped, or had ended already"
    if failed:
        return PipelineStatus.FAILURE, f"failed: {', '.join(failed)}"
    if cancelled:
        return PipelineStatus.CANCELLED, f"cancelled: {', '.join(cancelled)}"
    return PipelineStatus.SUCCESS, "every node succeeded"


def _cancel(run: PipelineRun, nodes: list[NodeOutlook]) -> bool:
    """Cancel what still runs, on behalf of who cancelled the whole."""
    asked = run.changes.filter(to_status=PipelineStatus.CANCELLING).select_related("by").last()
    done = False
    for node in nodes:
        if node.execution and node.state not in (*ENDED, Status.CANCELLING):
            try:
                node.execution.cancel(by=asked.by if asked else None)
                done = True
            except NotCancellable:  # it has ended meanwhile
                log.info("%s ended before it could be cancelled", node.execution)
    return done


# --- schedules


def fire(pk: int, now: datetime) -> bool:
    """Start what a schedule is due for, or write down why not; set its next time. However many times went by while
    nobody looked, it is started once."""
    with transaction.atomic():
        schedule = (
            Schedule.objects.select_for_update(of=("self",))
            .select_related("task__cluster", "task__spu", "task__heu", "pipeline", "owner")
            .filter(pk=pk, next_run_at__lte=now)
            .first()
        )
        if schedule is None or schedule.next_run_at is None:
            return False
        due = schedule.next_run_at
        if not schedule.ticks.filter(due_at=due).exists():  # it would, if this host's clock was put back
            tick = Tick(schedule=schedule, due_at=due, at=now, skipped=_reason_to_skip(schedule))
            if not tick.skipped:
                try:
                    _submit(schedule, tick)
                except DocumentsInvalid as error:
                    tick.skipped = f"not valid now: {error}"
            tick.save()
        # not by save: no operator changed anything
        Schedule.objects.filter(pk=pk).update(next_run_at=schedule.time_after(now))
    return True


def _reason_to_skip(schedule: Schedule) -> str:
    owner = schedule.owner
    if owner and not (owner.is_active and owner.has_perm("executions.add_execution")):
        return f"{owner}, who saved it last, may not run anything any more; have somebody save it who may"
    last = schedule.ticks.filter(skipped="").select_related("execution", "pipeline_run").first()
    if last and last.started and not last.started.has_ended:
        return f"{last.started}, which it started at {last.at:%Y-%m-%d %H:%M} UTC, is still {last.started.status}"
    return ""


def _submit(schedule: Schedule, tick: Tick) -> None:
    """Raises DocumentsInvalid."""
    target = schedule.target
    if isinstance(target, Task):
        tick.execution = Execution.objects.submit(
            target.documents(), task=target, by=schedule.owner, options=target.options()
        )
    else:
        tick.pipeline_run = PipelineRun.objects.submit(target, by=schedule.owner)
