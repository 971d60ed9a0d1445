"""What the time of a run went into: when each party began each phase of an attempt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from django.db.models import Max, Min
from django.db.models.fields.json import KT
from django.utils.translation import gettext_lazy as _

from executions.models import Execution, ExecutionEvent, PartyRun
from executions.states import Status
from workers.contract.registry import DEVICE_REGISTRY

#: A party's clock that is off by more is set right, by when its events came.
CLOCK_IS_WRONG = timedelta(seconds=1)

STARTING, LINKS, DEVICES, COMPUTING, CLEANUP = "starting", "links", "devices", "computing", "cleanup"
#: What each phase is called, in their order.
PHASES = {
    STARTING: _("Starting"),
    LINKS: _("Links"),
    DEVICES: _("Devices"),
    COMPUTING: _("Computing"),
    CLEANUP: _("Clean-up"),
}
#: Statuses of an execution for which no party is at work.
WAITS = (Status.QUEUED, Status.RETRY, Status.AWAITING_APPROVAL)


class Wait(NamedTuple):
    """A time in which an execution waited: as what (the change that began it), and why."""

    began: datetime
    ended: datetime
    change: Any
    why: str


class Phases(NamedTuple):
    """A party's phases in an attempt: when each began, and last when it was over."""

    run: PartyRun
    begun: list[tuple[datetime, str]]

    def spans(self) -> Iterator[tuple[datetime, datetime, str]]:
        """Yield from when to when each phase was."""
        for (at, phase), (after, _next) in pairwise(self.begun):
            yield at, after, phase


def stages(execution: Execution) -> list[Any]:
    """Return when each party began each stage of each attempt, by its own clock and by when that was heard, and the run
    whose session it reused."""
    return list(
        ExecutionEvent.objects.filter(execution=execution)
        .exclude(stage="")
        .order_by()
        .values("attempt", "party", "stage")
        .annotate(
            began_at=Min("timestamp"),
            heard_at=Min("received_at"),
            first=Min("sequence"),
            reused=Max(KT("data__reused_session")),
        )
        .values_list("attempt", "party", "stage", "began_at", "heard_at", "first", "reused", named=True)
    )


def waits(changes: Sequence[Any], now: datetime) -> Iterator[Wait]:
    """Yield each time in which it waited. ``changes``: of its state, oldest first."""
    for change, after in pairwise([*changes, None]):
        if change.to_status in WAITS:
            why = change.why if change.to_status != Status.QUEUED or change.from_status else ""
            yield Wait(change.at, after.at if after else now, change, why)


def phases(
    execution: Execution, number: int, runs: Sequence[PartyRun], reached: Sequence[Any], now: datetime
) -> list[Phases]:
    """Return what each party did in an attempt. ``runs``: of that attempt; ``reached``: what ``stages`` returns."""
    goes_on = not execution.has_ended and number == execution.attempt
    start = min(run.dispatched_at for run in runs)
    found = []
    for run in runs:
        told = [row for row in reached if row.attempt == number and row.party == run.party.name]
        # The clock of the dispatch is the control plane's; nothing of a party's is drawn before it
        begun = [(run.dispatched_at, STARTING), *((max(at, start), phase) for at, phase in _of_stages(told))]
        until = run.released_at or run.ended_at or (now if goes_on else None)
        begun.append((max([at for at, _ in begun] + ([until] if until else [])), ""))
        found.append(Phases(run, begun))
    return found


def _of_stages(reached: Sequence[Any]) -> Iterator[tuple[datetime, str]]:
    """Yield when a party began each phase, by the control plane's clock if the party's is wrong."""
    late = min((row.heard_at - row.began_at for row in reached), default=timedelta())
    off = late if abs(late) > CLOCK_IS_WRONG else timedelta()
    before = STARTING
    for row in sorted(reached, key=lambda row: row.first):
        if (phase := _phase(row.stage)) != before:
            yield row.began_at + off, phase
            before = phase


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
