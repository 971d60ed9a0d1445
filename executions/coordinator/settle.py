"""Settles an execution by what its parties did: it has started, succeeded or failed, is stopped, or is retried."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from controlplane.models import ALIGNMENT_LENGTH, COLUMN_TYPES, Dataset
from executions.coordinator.isolation import alone
from executions.models import Execution, PartyRun
from executions.states import ACTIVE, RUN_ENDED, RunStatus, Status, transition
from workers.contract.catalogue import TABLE
from workers.contract.documents import TaskConfig, column_problem
from workers.contract.errors import (
    ERRORS,
    AlgorithmError,
    ClusterInitError,
    NetworkError,
    ResourceError,
    SecretFlowTaskError,
    is_link,
)  # fmt: skip
from workers.contract.registry import stages

log = logging.getLogger(__name__)

#: By error class: field with the number of retries, seconds before the first one, and whether the delay doubles.
RETRY_POLICY: dict[str, tuple[str, float, bool]] = {
    NetworkError.__name__: ("network_retries", 2.0, True),
    ResourceError.__name__: ("resource_retries", 5.0, False),
}
#: Longer than any of these delays.
LONGEST_DELAY = timedelta(seconds=30)


def hold(executions: Iterable[UUID]) -> None:
    """Lock these executions until the transaction ends, in one order. Everybody who writes party runs does this first,
    so that on PostgreSQL no two wait for each other; on SQLite the transaction itself keeps them apart."""
    held = Execution.objects.select_for_update(of=("self",), no_key=True).filter(pk__in=list(executions))
    list(held.order_by("pk").values_list("pk", flat=True))


def settle(execution_id: UUID) -> None:
    """Bring an execution in line with its party runs. Harmless to repeat; safe beside another coordinator.

    An execution for which that fails, because its documents are of another version or by a fault of ours, ends with
    the reason. Raises errors that concern everything.
    """
    with alone(f"execution {execution_id} could not be settled") as fault, transaction.atomic():
        _settle(execution_id)
    if fault.reason:
        with transaction.atomic():
            _give_up(execution_id, f"the control plane could not bring it to its end: {fault.reason}")


def _active(execution_id: UUID) -> Execution | None:
    """Return an execution, held as by :func:`hold`; None if no party can be computing for it."""
    execution = Execution.objects.select_for_update(of=("self",), no_key=True).filter(pk=execution_id).first()
    return execution if execution and execution.status in ACTIVE else None


def _settle(execution_id: UUID) -> None:
    if (execution := _active(execution_id)) is None:
        return
    runs = list(execution.runs.filter(attempt=execution.attempt).select_related("party").order_by("party__name"))
    _show(execution, runs)
    failed = [r for r in runs if r.status in RUN_ENDED and r.status != RunStatus.SUCCESS]
    if execution.status == Status.DISPATCHED and any(r.started_at for r in runs):
        transition(execution, Status.RUNNING, why="the first party began", started_at=timezone.now())
    if failed or execution.status == Status.CANCELLING or any(r.error for r in runs):
        _stop_others(runs)
        if all(r.status in RUN_ENDED for r in runs):
            _decide(execution, runs)
    elif runs and all(r.status == RunStatus.SUCCESS for r in runs):
        _succeed(execution, runs)


def _give_up(execution_id: UUID, error: str) -> None:
    """Have an execution's runs stopped, and end it once they have ended."""
    if (execution := _active(execution_id)) is None:
        return
    runs = list(execution.runs.filter(attempt=execution.attempt))
    _stop_others(runs)
    if all(r.status in RUN_ENDED for r in runs):
        cancelled = execution.status == Status.CANCELLING
        fields = {} if cancelled else {"error": error, "error_type": AlgorithmError.__name__}
        transition(execution, Status.CANCELLED if cancelled else Status.FAILURE, why=error, **fields)


def _show(execution: Execution, runs: list[PartyRun]) -> None:
    """Store stage and progress of the slowest party, and the first real cause as soon as it is known."""
    order = stages()
    known = [order.index(r.stage) for r in runs if r.stage in order and r.stage != "cleanup"]
    fields: dict[str, Any] = {
        "stage": order[min(known)] if known else "",
        "progress": min((r.progress for r in runs), default=0),
    } | _error_fields(first_cause(runs) if _is_settled(runs) else None)
    changed = {name: value for name, value in fields.items() if getattr(execution, name) != value}
    if changed:
        Execution.objects.filter(pk=execution.pk).update(**changed)
        for name, value in changed.items():
            setattr(execution, name, value)


def _is_settled(runs: list[PartyRun]) -> bool:
    """Return whether the first cause found so far is final. If a party died, the broken links and crashes of the others
    are seen before its own loss."""
    cause = first_cause(runs)
    return cause is not None and (_rank(cause)[:2] < (False, 2) or all(r.status in RUN_ENDED for r in runs))


def first_cause(runs: list[PartyRun]) -> PartyRun | None:
    """Return the run whose error is the first real cause; an echo of a peer's error or a broken link only if there is
    no other. None if no run has an error."""
    return min((r for r in runs if r.error), key=_rank, default=None)


def _rank(run: PartyRun) -> tuple[Any, ...]:
    link = is_link(run.error_type)
    # A lost party breaks the links of the others and may crash them, never the other way round
    severity = 1 if run.status == RunStatus.LOST else 2 if link or run.crashed else 0
    return run.caused_by_peer, severity, run.ended_at or timezone.now(), run.party.name


def _error_fields(cause: PartyRun | None) -> dict[str, str]:
    if cause is None:
        return {}
    return {
        "error": cause.error,
        "error_type": cause.error_type,
        "error_party": cause.party.name,
        "error_stage": cause.stage,
    }


def _stop_others(runs: list[PartyRun]) -> None:
    pending = [
        r.pk for r in runs if r.released_at is None and r.stop_requested_at is None and r.status not in RUN_ENDED
    ]
    PartyRun.objects.filter(pk__in=pending).update(stop_requested_at=timezone.now())


def _decide(execution: Execution, runs: list[PartyRun]) -> None:
    if execution.status == Status.CANCELLING:
        transition(
            execution,
            Status.CANCELLED,
            why="every party has stopped, or had ended already",
            error="",
            error_type="",
            error_party="",
            error_stage="",
        )
        return
    cause = first_cause(runs)
    if cause:
        retry_or_fail(execution, cause.error_type, f"{cause.party.name}: {cause.error}")
        return
    why = "a party stopped without saying why"
    retry_or_fail(execution, AlgorithmError.__name__, why, {"error": why, "error_type": AlgorithmError.__name__})


def retry_or_fail(execution: Execution, kind: str, why: str, fields: Mapping[str, str] | None = None) -> None:
    """Move an execution with an error of this class to RETRY if the policy has a try left, otherwise to FAILURE."""
    fields = fields or {}
    policy = _policy_of(kind)
    taken = execution.retries.get(kind, 0)
    if policy and taken < getattr(execution, policy[0]):
        option, delay, doubles = policy
        most = getattr(execution, option)
        if doubles:
            delay = delay * 2**taken * random.uniform(0.75, 1.25)  # jitter: many may have failed at the same moment
        due = timezone.now() + timedelta(seconds=delay)
        if execution.deadline is None or due < execution.deadline:
            why = f"{kind} at {why}; retry {taken + 1} of {most}"
            retries = execution.retries | {kind: taken + 1}
            transition(execution, Status.RETRY, why=why, due_at=due, retries=retries, **fields)
            return
    transition(execution, Status.FAILURE, why=why, **fields)


def _policy_of(kind: str) -> tuple[str, float, bool] | None:
    known = ERRORS.get(kind)
    if known is None or issubclass(known, ClusterInitError):
        return None
    return next((p for name, p in RETRY_POLICY.items() if issubclass(known, ERRORS[name])), None)


def _succeed(execution: Execution, runs: list[PartyRun]) -> None:
    result: dict[str, Any] = {}
    outputs: dict[str, list[str]] = {}
    for run in runs:
        for key, value in run.result.items():
            if key == "outputs":
                outputs[run.party.name] = _register_outputs(execution, run, value)
            elif isinstance(value, dict) and isinstance(result.get(key), dict):
                result[key] = result[key] | value
            elif key == "warnings" and isinstance(value, list) and isinstance(result.get(key), list):
                # Some warnings come from one party, others from all
                result[key] = [*dict.fromkeys([*map(str, result[key]), *map(str, value)])]
            else:
                result.setdefault(key, value)
    if outputs:
        result["outputs"] = outputs
    transition(
        execution,
        Status.SUCCESS,
        why="all parties succeeded",
        result=result,
        has_warnings=bool(result.get("warnings")),
        progress=1.0,
    )


def _register_outputs(execution: Execution, run: PartyRun, outputs: Any) -> list[str]:
    """Register a party's outputs as datasets, so that the next task can name them. Does not change what an operator
    registered. Returns their names."""
    task = TaskConfig.model_validate(execution.documents["task_config"])
    expected = {name for _, party, name in task.keeps() if party == run.party.name}
    names = []
    for name, described in outputs.items() if isinstance(outputs, dict) else ():
        described = described if isinstance(described, dict) else {}
        kind = str(described.get("kind", TABLE))[:64]
        columns = described.get("columns", {} if kind != TABLE else None)
        if name not in expected or not isinstance(columns, dict):
            log.warning("%s reported an output that the task does not have", run.party.name)
            continue
        names.append(name)
        found = {
            # A column name that cannot be registered could not be used by a task
            "columns": {c: t for c, t in columns.items() if t in COLUMN_TYPES and not column_problem(c, 1)},
            "kind": kind,
            "produced_by": execution.pk,
            "alignment": str(described.get("alignment") or "")[:ALIGNMENT_LENGTH],
        }
        dataset, created = Dataset.objects.get_or_create(party=run.party, name=name, defaults=found)
        if not created and dataset.produced_by:
            for field, value in found.items():
                setattr(dataset, field, value)
            dataset.save(update_fields=list(found))
    return names


def stop_at_work(execution: Execution, error: str) -> bool:
    """Fail an execution by what its parties are not to go on with, and stop those that are at work. Returns whether any
    was."""
    working = execution.runs.filter(attempt=execution.attempt, error="").exclude(status__in=RUN_ENDED)
    with transaction.atomic():
        hold([execution.pk])
        if not working.update(error=error, error_type=AlgorithmError.__name__):
            return False
        settle(execution.pk)
    return True


def give_up(run: PartyRun, error: str, kind: type[SecretFlowTaskError] = ResourceError) -> bool:
    """Stop a run that does not begin. Returns True: something was done."""
    with transaction.atomic():
        hold([run.execution_id])
        PartyRun.objects.filter(pk=run.pk, error="").update(
            error=error[:4000], error_type=kind.__name__, stop_requested_at=timezone.now()
        )
        settle(run.execution_id)
    return True
