"""Prepares what the pages of an execution and the front page show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import Max, Min
from django.db.models.fields.json import KT
from django.utils import timezone

from executions.models import Execution, ExecutionEvent, Preflight
from executions.states import COLOURS, Status
from workers.contract.layers import layers
from workers.contract.registry import TASK_EXECUTOR_REGISTRY
from workers.contract.registry import stages as stages_of_a_run
from workers.contract.secrets import masked

SHOWN_EVENTS = 200
SHOWN_OF_AN_EVENT = 400
#: How much of a result is shown: rows, characters of one value, warnings.
SHOWN_OF_A_RESULT, SHOWN_OF_A_VALUE, SHOWN_WARNINGS = 500, 500, 50


def duration(start: datetime | None, end: datetime | None) -> str:
    """Return a duration as ``1 h 02 min``, ``3 min 05 s`` or ``2.31 s``; up to now if there is no end yet."""
    if start is None:
        return "-"
    seconds = max(((end or timezone.now()) - start).total_seconds(), 0)
    if seconds < 60:
        return f"{seconds:.2f} s" if end else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"


def title_of(task_type: str) -> str:
    """Return the task type in words; its name if it is no longer installed."""
    return TASK_EXECUTOR_REGISTRY[task_type].title if task_type in TASK_EXECUTOR_REGISTRY else task_type


def percent(progress: float) -> int:
    return round(100 * min(max(progress, 0), 1))


def live(execution: Execution) -> dict[str, Any]:
    """Return everything on the page that changes while the execution runs. Takes seven queries, whatever its size."""
    latest = execution.runs.filter(attempt=execution.attempt).select_related("party").defer("result")
    runs: list[Any] = list(latest.order_by("pk"))
    for run in runs:
        run.colour, run.percent = COLOURS.get(run.status, "default"), percent(run.progress)
        run.duration = duration(run.started_at, run.ended_at)
    events: list[Any] = list(execution.events.order_by("-pk")[: SHOWN_EVENTS + 1])
    for event in events:
        said = {key: value for key, value in event.data.items() if key != "stage"}
        event.colour, event.label = COLOURS.get(event.status, "default"), Status(event.status).label
        event.said = json.dumps(said, ensure_ascii=False)[:SHOWN_OF_AN_EVENT] if said else ""
    reached = stages(execution) if runs else []
    result = {**execution.result} if isinstance(execution.result, dict) else {}
    warnings = result.pop("warnings", [])
    if not isinstance(warnings, list):  # a party wrote it
        warnings = [warnings]
    rows = list(islice(flat(result), SHOWN_OF_A_RESULT + 1))
    return {
        "execution": execution,
        "colour": COLOURS.get(execution.status, "default"),
        "title_of_type": title_of(execution.task_type),
        "percent": percent(execution.progress),
        "duration": duration(execution.created_at, execution.ended_at),
        "runs": runs,
        "stages": reached,
        "devices_of": builder_of(reached),
        "warnings": [cut(str(warning)) for warning in warnings[:SHOWN_WARNINGS]],
        "more_warnings": max(len(warnings) - SHOWN_WARNINGS, 0),
        "result": rows[:SHOWN_OF_A_RESULT],
        "more_result": len(rows) > SHOWN_OF_A_RESULT,
        "changes": execution.changes.select_related("by").order_by("at", "pk"),
        "events": events[:SHOWN_EVENTS],
        "more_events": len(events) > SHOWN_EVENTS,
    } | checked(execution.preflights.select_related("requested_by").first())


def builder_of(reached: list[dict[str, Any]]) -> Execution | None:
    """Return the execution whose devices were reused, going by the stages that were reached; None if none were."""
    job_name = next((stage["reused"] for stage in reached if stage["reused"]), "")
    try:
        builder = UUID(job_name.rpartition("-")[0])
    except ValueError:  # a party wrote it: it may be anything, and is mostly empty
        return None
    return Execution.objects.defer("documents", "result").filter(pk=builder).first()


def checked(preflight: Preflight | None) -> dict[str, Any]:
    """Return pre-flight checks party by party, for their template. Takes one query."""
    if preflight is None:
        return {"preflight": None}
    hosts = [
        {
            "party": part.party.name,
            "answered": part.answered_at,
            "results": [(entry["check"], entry["error"]) for entry in part.results],
            "facts": list(_facts(part.facts)),
        }
        for part in preflight.parties
    ]
    return {"preflight": preflight, "hosts": hosts}


def _facts(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the facts that a host reported, for people. The host wrote the values: they may be anything."""
    dataset = facts.get("dataset")
    if isinstance(dataset, dict):
        if isinstance(rows := dataset.get("rows"), int):
            yield "Rows", f"{rows:,}"
        if isinstance(columns := dataset.get("columns"), dict):
            yield "Columns", str(len(columns))
    for what in ("memory", "disk"):
        if isinstance(free := facts.get(f"free_{what}"), int):
            yield f"Free {what}", f"{free / 2**30:.1f} GiB"
    if isinstance(cpus := facts.get("cpus"), int):
        yield "CPUs", str(cpus)
    versions = facts.get("versions")
    for package, version in versions.items() if isinstance(versions, dict) else ():
        yield str(package)[:32], str(version)[:32]


def stages(execution: Execution) -> list[dict[str, Any]]:
    """Return each stage with the time at which the first party reached it, counted from the dispatch, and the run whose
    session it reused."""
    rows = list(
        ExecutionEvent.objects.filter(execution=execution, attempt=execution.attempt)
        .order_by()
        .values_list("stage")
        .annotate(at=Min("timestamp"), reused=Max(KT("data__reused_session")))
    )
    first: dict[str, datetime] = {stage: at for stage, at, _ in rows}
    reused = {stage: job_name or "" for stage, _, job_name in rows}
    start = execution.dispatched_at or min(first.values(), default=None)
    # a device that is off has no stage: it is not shown once a later stage was reached
    order = stages_of_a_run()
    reached = [i for i, name in enumerate(order) if name in first]
    newest = max(reached, default=-1)
    shown = [(i, name) for i, name in enumerate(order) if name in first or i > newest]
    found = []
    for i, name in shown:
        state = "cp-reached" if name in first else ""
        if i == newest and not execution.has_ended:
            state += " cp-now"
        if execution.status == Status.FAILURE and name == execution.error_stage:
            state += " cp-broke"
        after = (first[name] - start).total_seconds() if name in first and start else None
        shown_after = f"+{max(after, 0):.2f} s" if after is not None else ""
        found.append({"name": name, "state": state, "after": shown_after, "reused": reused.get(name, "")})
    return found


def flat(result: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield a nested result as rows of label and value: ``intersection count, alice`` and the number."""
    if isinstance(result, dict):
        for key, value in result.items():
            yield from flat(value, cut(f"{prefix}, {key}" if prefix else str(key).replace("_", " ")))
    elif isinstance(result, bool) or result is None:
        yield prefix, {True: "yes", False: "no", None: "-"}[result]
    elif isinstance(result, int):
        yield prefix, f"{result:,}"
    elif isinstance(result, float):
        yield prefix, f"{result:.6g}"
    elif isinstance(result, list):
        few = ", ".join(cut(str(value)) for value in result[:SHOWN_OF_A_VALUE])
        more = f", and {len(result) - SHOWN_OF_A_VALUE:,} more" if len(result) > SHOWN_OF_A_VALUE else ""
        yield prefix, cut(few) + more
    else:
        yield prefix, cut(str(result))


def cut(text: str) -> str:
    """Return a text as the page shows it: shortened if it is long."""
    if len(text) <= SHOWN_OF_A_VALUE:
        return text
    return f"{text[:SHOWN_OF_A_VALUE]} ... ({len(text):,} characters)"


def as_text(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return documents in the order of their layers, which PostgreSQL does not keep, with their secrets masked."""
    shown = masked(found)
    return [(name, json.dumps(shown[name], indent=2, ensure_ascii=False)) for name in layers() if name in found]
