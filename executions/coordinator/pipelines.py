"""Advances pipeline runs: makes the executions whose turn it is, and ends runs whose nodes have ended.

Each step looks at the database and does one thing about it in one transaction. Steps may be repeated and run beside
another coordinator, and nothing is lost if a coordinator is killed in between.
"""

from __future__ import annotations

import logging
from itertools import groupby
from uuid import UUID

from django.db import transaction

from executions.coordinator.isolation import alone
from executions.models import Execution, NodeRun, NotCancellable, PipelineRun
from executions.models.pipeline_run import NodeState, node_states
from executions.states import ENDED, PIPELINE_ACTIVE, PipelineStatus, Status, transition
from workers.contract.problems import DocumentsInvalid

log = logging.getLogger(__name__)


def step() -> bool:
    """Look once at all pipeline runs. Returns whether anything was done."""
    done = False
    for run in _to_be_advanced():
        with alone(f"pipeline run {run}"):
            done |= advance(run)
    return done


def _to_be_advanced() -> list[UUID]:
    """Return the runs for which there is something to do. Takes one query, however many there are."""
    rows = (
        NodeRun.objects.filter(run__status__in=PIPELINE_ACTIVE)
        .select_related("run", "execution")
        .defer("documents", "options", "execution__documents", "execution__result")
        .order_by("run__created_at", "run_id", "position")
    )
    found = []
    for run, nodes in groupby(rows, key=lambda node: node.run):
        with alone(f"pipeline run {run.pk}"):
            now = node_states(run.status, nodes)
            if run.status == PipelineStatus.CANCELLING or _is_over(now) or any(node.is_startable for node in now):
                found.append(run.pk)
    return found


def _is_over(nodes: list[NodeState]) -> bool:
    return all(node.is_settled for node in nodes)


def advance(pk: UUID) -> bool:
    """Bring a pipeline run in line with its executions. Returns whether anything was done."""
    with transaction.atomic():
        # On PostgreSQL the lock keeps two coordinators apart; on SQLite the transaction itself does
        run = PipelineRun.objects.select_for_update(of=("self",)).filter(pk=pk).first()
        if run is None or run.status not in PIPELINE_ACTIVE:
            return False
        nodes = run.node_states()
        if run.status == PipelineStatus.RUNNING:
            startable = [node for node in nodes if node.is_startable]
            for node in startable:
                _start(run, node)
            if startable:
                return True
        if _is_over(nodes):
            to, why = _end_of(run, nodes)
            return transition(run, to, why=why)
    return run.status == PipelineStatus.CANCELLING and _cancel(run, nodes)


def _start(run: PipelineRun, found: NodeState) -> None:
    """Submit the execution of a node. If it is refused, the node has failed."""
    node = NodeRun.objects.select_related("task").get(pk=found.node.pk)
    with alone(f"node {node.name} of pipeline run {run.pk} could not be submitted") as fault:
        try:
            with transaction.atomic():
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
    if fault.reason:
        node.error = f"the control plane could not submit it: {fault.reason}"
    node.save(update_fields=["execution", "error"])


def _end_of(run: PipelineRun, nodes: list[NodeState]) -> tuple[PipelineStatus, str]:
    """Return the state in which a run ends whose nodes are all settled, and why."""
    failed = [node.name for node in nodes if node.state == Status.FAILURE]
    cancelled = [node.name for node in nodes if node.state == Status.CANCELLED]
    if run.status == PipelineStatus.CANCELLING:
        return PipelineStatus.CANCELLED, "every execution has stopped, or had ended already"
    if failed:
        return PipelineStatus.FAILURE, f"failed: {', '.join(failed)}"
    if cancelled:
        return PipelineStatus.CANCELLED, f"cancelled: {', '.join(cancelled)}"
    return PipelineStatus.SUCCESS, "every node succeeded"


def _cancel(run: PipelineRun, nodes: list[NodeState]) -> bool:
    """Cancel the executions that still run, on behalf of the user who cancelled the pipeline run."""
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
