"""The charts and figures of the overview: how many executions ended how, and how long they waited and ran."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Sum
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from controlplane.models import Parties, PartySet
from executions.models import Hour
from executions.results.blocks import Chart
from executions.states import Status

#: Periods that may be chosen: the word in the address, how it is called, its length, and the length of a bar.
PERIODS = {
    "24h": (_("24 hours"), timedelta(hours=24), timedelta(hours=1)),
    "7d": (_("7 days"), timedelta(days=7), timedelta(days=1)),
    "30d": (_("30 days"), timedelta(days=30), timedelta(days=1)),
}
_ENDS = (Status.SUCCESS, Status.FAILURE, Status.CANCELLED)
_COLOURS = {Status.SUCCESS: "--cp-green", Status.FAILURE: "--cp-red", Status.CANCELLED: "--cp-quiet"}


@dataclass(slots=True)
class Times:
    """What ended within a bar of the chart: the number by status, and the seconds of all of them."""

    numbers: dict[str, int]
    waited: float = 0.0
    ran: float = 0.0

    @property
    def number(self) -> int:
        return sum(self.numbers.values())


def overview(period: str, parties: Parties) -> dict[str, Any]:
    """Return the figures and charts of a period, of executions that involve one of the parties (None for all). Takes
    one query, of a row for each hour."""
    _, whole, bar = PERIODS[period]
    now = timezone.localtime()
    start = _begin(now - whole + bar, bar)
    bars = _bars(start, now, bar)
    for hour, status, number, waited, ran in _hours(start, parties):
        times = bars.get(_begin(timezone.localtime(hour), bar))
        if times and status in times.numbers:
            times.numbers[status] += number
            times.waited, times.ran = times.waited + waited, times.ran + ran
    ended = sum(times.number for times in bars.values())
    decided = sum(times.numbers[Status.SUCCESS] + times.numbers[Status.FAILURE] for times in bars.values())
    good = sum(times.numbers[Status.SUCCESS] for times in bars.values())
    waited, ran = (sum(getattr(times, name) for times in bars.values()) for name in ("waited", "ran"))
    return {
        "ended": ended,
        "success_rate": f"{good / decided:.1%}" if decided else "-",
        "mean_waited": timedelta(seconds=waited / ended) if ended else None,
        "mean_ran": timedelta(seconds=ran / ended) if ended else None,
        "charts": list(_charts(bars, bar)) if ended else [],
    }


def _hours(start: datetime, parties: Parties) -> Any:
    rows = Hour.objects.filter(hour__gte=start)
    rows = rows.filter(party_set=None) if parties is None else rows.filter(party_set__in=PartySet.keys(parties))
    sums = rows.order_by().values("hour", "status").annotate(n=Sum("number"), w=Sum("waited"), r=Sum("ran"))
    return sums.values_list("hour", "status", "n", "w", "r")


def _begin(at: datetime, bar: timedelta) -> datetime:
    """Return the beginning of the hour or the day of a local time."""
    at = at.replace(minute=0, second=0, microsecond=0)
    return at if bar < timedelta(days=1) else at.replace(hour=0)


def _bars(start: datetime, now: datetime, bar: timedelta) -> dict[datetime, Times]:
    found, at = {}, start
    while at <= now:
        found[at] = Times({str(status): 0 for status in _ENDS})
        # Days differ in length where clocks change: so by the day's own beginning
        at = _begin(timezone.localtime(at + bar + bar / 4), bar) if bar > timedelta(hours=1) else at + bar
    return found


def _charts(bars: dict[datetime, Times], bar: timedelta) -> Iterator[Chart]:
    labels = [f"{at:%H:%M}" if bar < timedelta(days=1) else date_format(at, "M d") for at in bars]
    across = gettext("Hour") if bar < timedelta(days=1) else gettext("Day")
    told = list(bars.values())
    yield Chart(
        title=gettext("Executions by {across}").format(across=across.lower()),
        columns=[across, *(str(status.label) for status in _ENDS)],
        rows=[[label, *times.numbers.values()] for label, times in zip(labels, told, strict=True)],
        across=across,
        up=gettext("Executions that ended"),
        labels=labels,
        curves=[
            (str(status.label), [(float(i), float(times.numbers[status])) for i, times in enumerate(told)], False)
            for status in _ENDS
        ],
        colours=[_COLOURS[status] for status in _ENDS],
        is_bars=True,
        is_stacked=True,
    )
    means: list[Any] = [(t.waited / t.number, t.ran / t.number) if t.number else (None, None) for t in told]
    yield Chart(
        title=gettext("Mean waiting and running time"),
        columns=[across, gettext("Waited, seconds"), gettext("Ran, seconds")],
        rows=[[label, *mean] for label, mean in zip(labels, means, strict=True)],
        across=across,
        up=gettext("Seconds"),
        labels=labels,
        curves=[
            (name, [(float(i), mean[at]) for i, mean in enumerate(means) if mean[at] is not None], False)
            for at, name in enumerate((gettext("Waited"), gettext("Ran")))
        ],
    )
