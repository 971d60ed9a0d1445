"""The figures that the database has. Each function takes a fixed number of queries, whatever was ever run."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, Min, Sum
from django.db.models.fields.json import KeyTransform
from django.utils import timezone

from controlplane.models import Party
from controlplane.models.party_set import PartySetMember
from executions.models import Execution, PartyCheck, PartyRun, Preflight, Total
from executions.states import OPEN, Status

#: Statuses of executions in which they wait.
WAITING = (Status.AWAITING_APPROVAL, Status.QUEUED, Status.RETRY)
#: How many of the newest rounds of pre-flight checks are looked at for round trips, how many answers of these, and how
#: old they may be.
MOST_ROUNDS, MOST_ANSWERS, ANSWERS_FROM = 200, 1000, timedelta(hours=1)
#: Peers of one answer that are looked at; more are no parties of a run.
MOST_PEERS = 50


class Summed(NamedTuple):
    """Number and seconds of one kind, up to a bound of the histogram; infinite beyond all."""

    labels: tuple[str, ...]
    bound: float
    number: int
    seconds: float


def party_names() -> list[str]:
    """Return the names of the registered parties. Takes one query."""
    return sorted(Party.objects.order_by().values_list("name", flat=True))


def totals() -> dict[str, list[Summed]]:
    """Return the totals by metric. Takes one query, and has to: a coordinator may be replacing rows by their sum."""
    found: dict[str, list[Summed]] = {}
    rows = Total.objects.order_by().values_list("metric", "labels", "bound")
    for metric, labels, bound, number, seconds in rows.annotate(Sum("number"), Sum("seconds")):
        one = Summed(tuple(json.loads(labels)), math.inf if bound is None else bound, int(number), float(seconds))
        found.setdefault(metric, []).append(one)
    return found


class Open(NamedTuple):
    """Executions that have not ended."""

    #: By status.
    number: Counter[str]
    #: By status, for those that wait: seconds since the oldest was queued.
    oldest: dict[str, float]
    #: Queued ones by party.
    queued_at: Counter[str]


def open_executions() -> Open:
    """Return what has not ended. Takes two queries: of few rows, found by the index of statuses."""
    rows = Execution.objects.filter(status__in=[str(status) for status in OPEN]).order_by()
    number: Counter[str] = Counter()
    since: dict[str, datetime] = {}
    queued: Counter[int] = Counter()
    for status, parties, count, oldest in rows.values_list("status", "party_set").annotate(
        Count("pk"), Min("queued_at")
    ):
        number[status] += count
        since[status] = min(oldest, since.get(status, oldest))
        if status == Status.QUEUED and parties is not None:
            queued[parties] += count
    queued_at: Counter[str] = Counter()
    members = PartySetMember.objects.filter(party_set__in=list(queued)).order_by()
    for parties, party in members.values_list("party_set", "party"):
        queued_at[party] += queued[parties]
    now = timezone.now()
    # Clocks of several hosts: one may be ahead
    oldest = {s: max(0.0, (now - since[s]).total_seconds()) if s in since else 0.0 for s in map(str, WAITING)}
    return Open(number, oldest, queued_at)


def runs_at_parties() -> dict[str, int]:
    """Return how many runs occupy a worker, by party. Takes one query, of the index of runs that are not released."""
    running = PartyRun.objects.filter(released_at=None).order_by()
    return dict(running.values_list("party__name").annotate(Count("pk")))


def round_trips() -> dict[tuple[str, str], float]:
    """Return the latest seconds from a greeting to its answer, by party and peer. Takes two queries, of a fixed number
    of rows. Parties have told these: what is no time is left out."""
    now = timezone.now()
    rounds = Preflight.objects.filter(requested_at__gt=now - ANSWERS_FROM).order_by("-requested_at")
    latest = list(rounds.values_list("pk", flat=True)[:MOST_ROUNDS])
    newest = (
        PartyCheck.objects.filter(preflight__in=latest)
        .order_by("-pk")
        .values_list("party__name", "answered_at", KeyTransform("round_trips", "facts"))
    )
    found: dict[tuple[str, str], float] = {}
    for party, answered_at, told in newest[:MOST_ANSWERS]:
        if answered_at is None or now - answered_at > ANSWERS_FROM or not isinstance(told, dict):
            continue
        for peer, seconds in list(told.items())[:MOST_PEERS]:
            if is_time(seconds):
                found.setdefault((party, str(peer)), float(seconds))
    return found


def is_time(seconds: Any) -> bool:
    """Return whether something that a party told is a number of seconds."""
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 1e6


def cumulative(sums: list[Summed], bounds: tuple[float, ...]) -> Iterator[tuple[tuple[str, ...], list[int], float]]:
    """Yield the labels, the number up to each bound and all in all, and the sum of seconds of each histogram."""
    by_labels: dict[tuple[str, ...], list[Summed]] = {}
    for one in sums:
        by_labels.setdefault(one.labels, []).append(one)
    for labels, parts in sorted(by_labels.items()):
        numbers = [sum(one.number for one in parts if one.bound <= bound) for bound in (*bounds, math.inf)]
        yield labels, numbers, sum(one.seconds for one in parts)
