"""A first reading of an execution: what happened, what is known of it, and where its time went."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Min

from executions.diagnosis.catalogue import remedy_of
from executions.models import Execution, PartyRun
from executions.states import RunStatus, Status


def first_reading(execution: Execution) -> str:
    """Return the reading as text."""
    return "\n".join(_lines(execution)) + "\n"


def _lines(execution: Execution) -> Iterator[str]:
    yield f"{execution}: {execution.get_status_display()}, attempt {execution.attempt}"
    if execution.error:
        where = "".join(
            (
                f" at {execution.error_party}" if execution.error_party else "",
                f" in stage {execution.error_stage}" if execution.error_stage else "",
            )
        )
        yield f"It failed{where} with {execution.error_type or 'an error'}: {execution.error}"
    elif execution.waiting_reason:
        yield f"It waits: {execution.waiting_reason}"
    elif execution.status == Status.SUCCESS:
        yield "It succeeded."
    yield _advice(execution)
    yield ""
    yield from _times(execution)
    yield ""
    yield from _attempts(execution)


def _advice(execution: Execution) -> str:
    if remedy := remedy_of(execution):
        return f"What to do: {remedy}"
    if execution.error:
        return "This failure is not in the catalogue of known ones. Read the log of the party's worker."
    return "There is nothing to do."


def _times(execution: Execution) -> Iterator[str]:
    waited, ran = execution.waited, execution.ran
    if waited is not None:
        yield f"Waited {waited.total_seconds():.2f} s"
    if ran is not None:
        yield f"Ran {ran.total_seconds():.2f} s"
    begun = (
        execution.events.filter(attempt=execution.attempt)
        .exclude(stage="")
        .order_by()
        .values_list("party", "stage")
        .annotate(at=Min("timestamp"))
        .order_by("party", "at")
    )
    before: tuple[str, str, float] | None = None
    for party, stage, at in begun:
        if before and before[0] == party:
            yield f"  {party}: {before[1]} took {at.timestamp() - before[2]:.2f} s"
        before = (party, stage, at.timestamp())


def _attempts(execution: Execution) -> Iterator[str]:
    runs = execution.runs.select_related("party").order_by("attempt", "pk")
    for run in runs:
        told = f": {run.error_type or 'error'}: {run.error}" if run.error else ""
        echo = " (caused by a peer)" if run.caused_by_peer else ""
        yield f"attempt {run.attempt} at {run.party.name}: {run.get_status_display()}{_where(run)}{echo}{told}"


def _where(run: PartyRun) -> str:
    at = f" on {run.worker}" if run.worker else ""
    stage = f" in stage {run.stage}" if run.stage and run.status != RunStatus.SUCCESS else ""
    return at + stage
