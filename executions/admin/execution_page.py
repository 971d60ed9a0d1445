"""Prepares what the pages of an execution and the front page show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext

from controlplane.admin.shown import moment, span
from controlplane.language import translated
from executions.admin.labels import labels_of
from executions.admin.timeline import timeline
from executions.diagnosis.catalogue import remedy_of
from executions.models import Execution, Preflight
from executions.results.lineage import origin
from executions.results.phases import PHASES, stages
from executions.results.reading import read
from executions.states import COLOURS, Status
from workers.contract.layers import layers
from workers.contract.registry import TASK_EXECUTOR_REGISTRY
from workers.contract.secrets import masked

SHOWN_EVENTS = 200
SHOWN_OF_AN_EVENT = 400
#: What an event's data says that its row says already.
NOT_SHOWN = frozenset({"stage"})
#: Earlier executions of a task by which the time that is left is estimated.
SEEN_FOR_AN_ESTIMATE = 30


def duration(start: datetime | None, end: datetime | None) -> str:
    """Return how long it took from start to end, in words; to now if there is no end yet, ``-`` without a start."""
    return span((end or timezone.now()) - start if start else None, is_over=end is not None)


def title_of(task_type: str) -> str:
    """Return the task type in words; its name if it is no longer installed."""
    return translated(TASK_EXECUTOR_REGISTRY[task_type].title) if task_type in TASK_EXECUTOR_REGISTRY else task_type


def percent(progress: float) -> int:
    return round(100 * min(max(progress, 0), 1))


def live(execution: Execution) -> dict[str, Any]:
    """Return everything on the page that changes while the execution runs, except what it made. Takes nine queries at
    most, whatever its size."""
    every = list(execution.runs.select_related("party").defer("result").order_by("attempt", "pk"))
    runs: list[Any] = [run for run in every if run.attempt == execution.attempt]
    for run in runs:
        run.colour, run.percent = COLOURS.get(run.status, "default"), percent(run.progress)
        run.duration = duration(run.started_at, run.ended_at)
        run.host = run.worker.partition("@")[2].rpartition("-")[0]
    changes = list(execution.changes.select_related("by").order_by("at", "pk"))
    reached = stages(execution) if every else []
    preflight = execution.preflights.select_related("requested_by").first()
    shown_checks = checked(preflight)
    return (
        {
            "execution": execution,
            "colour": COLOURS.get(execution.status, "default"),
            "title_of_type": title_of(execution.task_type),
            "percent": percent(execution.progress),
            "waited": span(execution.waited, is_over=execution.ran is not None or execution.has_ended),
            "ran": span(execution.ran, is_over=execution.has_ended) if execution.ran is not None else "",
            "left": time_left(execution),
            "remedy": remedy_of(execution),
            "moments": {
                "submitted": moment(execution.created_at),
                "started": moment(execution.started_at),
                "ended": moment(execution.ended_at),
                "deadline": moment(execution.deadline),
            },
            "labels": labels_of(execution),
            "schedule": origin(execution),
            "runs": runs,
            "timeline": timeline(execution, every, changes, reached, _checking(preflight, shown_checks)),
            "phases": PHASES,
            "devices_of": builder_of(reached, execution.attempt),
            "found": read(execution.task_type, execution.result),
            "changes": changes,
        }
        | _events(execution)
        | shown_checks
    )


def _checking(preflight: Preflight | None, shown: dict[str, Any]) -> list[tuple[datetime, datetime]]:
    """Return from when to when the hosts checked it."""
    answered = [host["answered"] for host in shown.get("hosts", ()) if host["answered"]]
    return [(preflight.requested_at, max(answered))] if preflight and preflight.requested_at and answered else []


def _events(execution: Execution) -> dict[str, Any]:
    """Return the latest events, newest first, and apart from them the errors among them."""
    events: list[Any] = list(execution.events.order_by("-pk")[: SHOWN_EVENTS + 1])
    for event in events:
        said = {key: value for key, value in event.data.items() if key not in NOT_SHOWN}
        event.colour, event.label = COLOURS.get(event.status, "default"), Status(event.status).label
        event.said = json.dumps(said, ensure_ascii=False)[:SHOWN_OF_AN_EVENT] if said else ""
    return {
        "events": events[:SHOWN_EVENTS],
        "more_events": len(events) > SHOWN_EVENTS,
        "errors": [event for event in events[:SHOWN_EVENTS] if event.status == Status.FAILURE],
    }


def time_left(execution: Execution) -> str:
    """Return an estimate of how long a running execution will go on: by how long the task's latest runs took, or else
    by its progress; empty if there is nothing to go by. Takes one query, or none."""
    so_far = execution.ran
    if execution.status != Status.RUNNING or so_far is None:
        return ""
    before: list[timedelta] = []
    if execution.task_id is not None:
        latest = Execution.objects.filter(task=execution.task_id).order_by("-created_at", "-id")
        rows = latest.only("status", "started_at", "ended_at", "dispatched_at", "queued_at", "attempt", "created_at")
        before = sorted(row.ran for row in rows[:SEEN_FOR_AN_ESTIMATE] if row.status == Status.SUCCESS and row.ran)
    if before:
        usual = before[len(before) // 2]
        if so_far <= usual:
            left = span(usual - so_far, is_over=False)
            return gettext("about {left} left (the median of {number} runs is {usual})").format(
                left=left, number=len(before), usual=span(usual)
            )
        return gettext("longer than usual: the median of {number} runs is {usual}").format(
            number=len(before), usual=span(usual)
        )
    if 0.05 <= execution.progress < 1:
        rest = so_far * ((1 - execution.progress) / execution.progress)
        return gettext("about {left} left, by its progress").format(left=span(rest, is_over=False))
    return ""


def builder_of(reached: list[Any], attempt: int) -> Execution | None:
    """Return the execution whose devices were reused, going by the stages that were reached; None if none were."""
    job_name = next((row.reused for row in reached if row.attempt == attempt and row.reused), "")
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
            yield gettext("Rows"), f"{rows:,}"
        if isinstance(columns := dataset.get("columns"), dict):
            yield gettext("Columns"), str(len(columns))
    for what in ("memory", "disk"):
        if isinstance(free := facts.get(f"free_{what}"), int):
            yield gettext("Free {what}").format(what=translated(what)), f"{free / 2**30:.1f} GiB"
    if isinstance(cpus := facts.get("cpus"), int):
        yield gettext("CPUs"), str(cpus)
    versions = facts.get("versions")
    for package, version in versions.items() if isinstance(versions, dict) else ():
        yield str(package)[:32], str(version)[:32]


def as_text(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return documents in the order of their layers, which PostgreSQL does not keep, with their secrets masked."""
    shown = masked(found)
    return [(name, json.dumps(shown[name], indent=2, ensure_ascii=False)) for name in layers() if name in found]
