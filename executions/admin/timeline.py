"""The timeline of an execution: one lane a party, its attempts beside one another, and what each moment went into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext

from controlplane.admin.shown import span
from executions.models import Execution, PartyRun
from executions.results.phases import PHASES, Phases, Wait, phases, waits
from executions.states import RunStatus

#: Attempts that are drawn, the latest ones: a run is tried a few times.
MOST_ATTEMPTS = 6
#: What takes less is not seen.
TOO_SHORT = timedelta(milliseconds=2)


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


def timeline(
    execution: Execution,
    runs: Sequence[PartyRun],
    changes: Sequence[Any],
    stages: Sequence[Any],
    checks: Sequence[tuple[datetime, datetime]],
) -> list[Attempt]:
    """Return the waits and attempts in their order. ``runs``: of all attempts; ``changes``: of its state, oldest first;
    ``stages``: when each party began each stage in each attempt (``phases.stages``); ``checks``: from when to
    when its hosts checked it."""
    now = timezone.now()
    found: list[Attempt] = []
    numbers = sorted({run.attempt for run in runs})
    waiting = list(waits(changes, now))
    for number in numbers[-MOST_ATTEMPTS:]:
        of = [run for run in runs if run.attempt == number]
        start = min(run.dispatched_at for run in of)
        while waiting and waiting[0].began < start:
            found.append(_wait(waiting.pop(0), checks))
        title = gettext("Attempt {number}").format(number=number) if len(numbers) > 1 else gettext("Run")
        found.append(_attempt(title, phases(execution, number, of, stages, now)))
    found += [_wait(wait, checks) for wait in waiting]
    return found


def _wait(wait: Wait, checks: Sequence[tuple[datetime, datetime]]) -> Attempt:
    checked = [after - before for before, after in checks if wait.began <= before <= wait.ended]
    told = gettext("pre-flight checks took {span}").format(span=span(checked[-1])) if checked else ""
    label = wait.change.to_label
    return Attempt(
        title=label[:1].upper() + label[1:],
        took=span(wait.ended - wait.began),
        waited_for="; ".join(filter(None, (wait.why, told))) or label,
    )


def _attempt(title: str, found: Sequence[Phases]) -> Attempt:
    start = min(of.run.dispatched_at for of in found)
    end = max(of.begun[-1][0] for of in found)
    whole = max((end - start).total_seconds(), 1e-3)
    made = Attempt(title=title, took=span(end - start))
    for of in found:
        lane = Lane(of.run.party.name, end=_end(of.run))
        for at, after, phase in of.spans():
            if (took := after - at) > TOO_SHORT:
                place = 100 * (at - start).total_seconds() / whole
                width = 100 * took.total_seconds() / whole
                lane.segments.append(Segment(phase, f"{PHASES[phase]}: {span(took)}", place, width))
        made.lanes.append(lane)
    return made


def _end(run: PartyRun) -> str:
    is_told = run.status not in (RunStatus.SUCCESS, RunStatus.RUNNING, RunStatus.DISPATCHED)
    return run.get_status_display() if is_told else ""
