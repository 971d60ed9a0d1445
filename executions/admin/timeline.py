"""The timeline of an execution: one lane a party, its attempts beside one another, and what each moment went into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from controlplane.admin.shown import span
from executions.models import Execution, PartyRun
from executions.states import RunStatus, Status
from workers.contract.registry import DEVICE_REGISTRY

#: Attempts that are drawn, the latest ones: a run is tried a few times.
MOST_ATTEMPTS = 6
#: A party's clock that is off by more is set right in the drawing, by when its events came.
CLOCK_IS_WRONG = timedelta(seconds=1)
#: What takes less is not seen.
TOO_SHORT = timedelta(milliseconds=2)

STARTING, LINKS, DEVICES, COMPUTING, CLEANUP = "starting", "links", "devices", "computing", "cleanup"
#: What each phase is called, in the order of the legend.
PHASES = {
    STARTING: _("Starting"),
    LINKS: _("Links"),
    DEVICES: _("Devices"),
    COMPUTING: _("Computing"),
    CLEANUP: _("Clean-up"),
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a lane. ``start`` and ``width`` are percent of its attempt."""

    phase: str
    text: str
    start: float
    width: float


@dataclass(slots=True)
class Lane:
    """What a party did in an attempt."""

    party: str
    segments: list[Segment] = field(default_factory=list)
    end: str = ""


@dataclass(slots=True)
class Attempt:
    """An attempt, or a wait before one."""

    title: str
    #: The length in words, such as ``1.40 s``.
    took: str
    lanes: list[Lane] = field(default_factory=list)
    #: Why it waited; empty for an attempt.
    waited_for: str = ""


def _phase(stage: str) -> str:
    """Return the phase that begins with a stage's event."""
    devices = {f"{device.name}_init" for device in DEVICE_REGISTRY.values()}
    return {
        "task_started": STARTING,
        "sf_init": LINKS,
        "sf_cluster_ready": DEVICES,
        "devices_ready": STARTING,
        "task_execution": COMPUTING,
        "cleanup": CLEANUP,
    }.get(stage, DEVICES if stage in devices else STARTING)


def timeline(
    execution: Execution,
    runs: Sequence[PartyRun],
    changes: Sequence[Any],
    stages: Sequence[Any],
    checks: Sequence[tuple[datetime, datetime]],
) -> list[Attempt]:
    """Return the waits and attempts in their order. ``runs``: of all attempts; ``changes``: of its state, oldest first;
    ``stages``: when each party began each stage in each attempt (``execution_page.stages``); ``checks``: from when to
    when its hosts checked it."""
    now = timezone.now()
    found: list[Attempt] = []
    numbers = sorted({run.attempt for run in runs})
    waits = list(_waits(changes, now))
    for number in numbers[-MOST_ATTEMPTS:]:
        of = [run for run in runs if run.attempt == number]
        start = min(run.dispatched_at for run in of)
        while waits and waits[0][0] < start:
            found.append(_wait(*waits.pop(0), checks))
        found.append(_attempt(execution, number, len(numbers) > 1, start, of, stages, now))
    found += [_wait(*wait, checks) for wait in waits]
    return found


def _waits(changes: Sequence[Any], now: datetime) -> Iterator[tuple[datetime, datetime, str, str]]:
    """Yield each time in which it waited: from when, to when, as what, and why."""
    waiting = (Status.QUEUED, Status.RETRY, Status.AWAITING_APPROVAL)
    for change, after in pairwise([*changes, None]):
        if change.to_status in waiting:
            why = change.why if change.to_status != Status.QUEUED or change.from_status else ""
            yield change.at, after.at if after else now, change.to_label, why


def _wait(start: datetime, end: datetime, label: str, why: str, checks: Sequence[tuple[datetime, datetime]]) -> Attempt:
    checked = [after - before for before, after in checks if start <= before <= end]
    told = gettext("pre-flight checks took {span}").format(span=span(checked[-1])) if checked else ""
    return Attempt(
        title=label[:1].upper() + label[1:],
        took=span(end - start),
        waited_for="; ".join(filter(None, (why, told))) or label,
    )


def _attempt(
    execution: Execution,
    number: int,
    is_one_of_many: bool,
    start: datetime,
    runs: Sequence[PartyRun],
    stages: Sequence[Any],
    now: datetime,
) -> Attempt:
    goes_on = not execution.has_ended and number == execution.attempt
    lanes: list[tuple[PartyRun, list[tuple[datetime, str]]]] = []
    for run in runs:
        told = [row for row in stages if row.attempt == number and row.party == run.party.name]
        # The clock of the dispatch is the control plane's; nothing of a party's is drawn before it
        begun = [(run.dispatched_at, STARTING), *((max(at, start), phase) for at, phase in _phases(told))]
        until = run.released_at or run.ended_at or (now if goes_on else None)
        begun.append((max([at for at, _ in begun] + ([until] if until else [])), ""))
        lanes.append((run, begun))
    end = max(begun[-1][0] for _, begun in lanes)
    whole = max((end - start).total_seconds(), 1e-3)
    made = Attempt(
        title=gettext("Attempt {number}").format(number=number) if is_one_of_many else gettext("Run"),
        took=span(end - start),
    )
    for run, begun in lanes:
        lane = Lane(run.party.name, end=_end(run))
        for (at, phase), (after, _next) in pairwise(begun):
            if (took := after - at) > TOO_SHORT:
                place = 100 * (at - start).total_seconds() / whole
                width = 100 * took.total_seconds() / whole
                lane.segments.append(Segment(phase, f"{PHASES[phase]}: {span(took)}", place, width))
        made.lanes.append(lane)
    return made


def _phases(stages: Sequence[Any]) -> Iterator[tuple[datetime, str]]:
    """Yield when a party began each phase, by the control plane's clock if the party's is wrong."""
    late = min((row.heard_at - row.began_at for row in stages), default=timedelta())
    off = late if abs(late) > CLOCK_IS_WRONG else timedelta()
    before = STARTING
    for row in sorted(stages, key=lambda row: row.first):
        if (phase := _phase(row.stage)) != before:
            yield row.began_at + off, phase
            before = phase


def _end(run: PartyRun) -> str:
    is_told = run.status not in (RunStatus.SUCCESS, RunStatus.RUNNING, RunStatus.DISPATCHED)
    return run.get_status_display() if is_told else ""
