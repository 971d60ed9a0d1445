"""Totals of what has happened, for /metrics: they only rise, and what is removed later is still in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Min
from django.utils.translation import gettext_lazy as _

from executions.states import ACTIVE, ENDED, RunStatus, Status
from workers.contract.errors import ERRORS, is_link
from workers.contract.registry import stages

#: What is counted: ended executions and their seconds, by task type and status; seconds in the queue, by task type;
#: seconds of a party's stage, by task type and stage; failed attempts, by error class and stage; broken links and dead
#: letters, by party.
DURATION, WAIT, STAGE, FAILED, LINK, LETTER = "duration", "wait", "stage", "failed", "link", "letter"
#: Upper bounds of the histograms, in seconds. Others may be chosen later: each row keeps the bound that it has.
BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
#: Stages of an error before a party has begun.
EARLY_STAGES = ("preflight", "approval", "dispatch")
#: In place of a word that is none of ours: a party may send any, and each would be a series of its own.
OTHER = "other"
#: Seconds by which a party's stage may seem longer than its execution. Beyond that somebody has set the party's clock.
CLOCK_SLACK = 60.0


class Total(models.Model):
    """So many of a kind. Of each kind there may be several rows: their sum counts.

    A counter has to be the same whichever process is asked, must not fall when old executions are removed, and must
    count each end once. So whoever ends an execution adds rows in the transaction of that end. Rows are added and never
    changed, so nobody waits for anybody; a coordinator replaces many by their sum once in a while
    (``executions.coordinator.totals``). A reader sums all rows in one statement, and so never sees some of them twice
    or not at all.
    """

    metric = models.CharField(max_length=16)
    labels = models.CharField(max_length=200, help_text=_("Values of the labels, as a JSON list."))
    bound = models.FloatField(
        null=True,
        help_text=_("Smallest bound of the histogram that is not below the seconds; null beyond all of them."),
    )
    number = models.PositiveBigIntegerField()
    seconds = models.FloatField(default=0, help_text=_("Sum of the seconds of all of them."))

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.metric} {self.labels}: {self.number}"


class Tally:
    """Gathers what one transaction adds, and adds it in one statement."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, float | None], Total] = {}

    def add(self, metric: str, *labels: str, seconds: float | None = None) -> None:
        """Count one more. ``seconds``: what it took, for a histogram; less than nothing counts as nothing."""
        took = max(0.0, seconds or 0.0)
        bound = None if seconds is None else next((bound for bound in BOUNDS if took <= bound), None)
        told = json.dumps(labels)
        row = self._rows.setdefault(
            (metric, told, bound), Total(metric=metric, labels=told, bound=bound, number=0, seconds=0.0)
        )
        row.number += 1
        row.seconds += took

    def write(self) -> None:
        Total.objects.bulk_create(self._rows.values())


def count_change(execution: Any, to: Any, at: datetime, fields: Mapping[str, Any]) -> None:
    """Count that an execution ends, or is retried. Called in the transaction of that change, with the execution as it
    was before and the fields that are set along with it."""
    tally = Tally()
    if to in (Status.FAILURE, Status.RETRY):
        _count_failure(tally, execution, fields)
    if to in ENDED:
        took = (at - execution.created_at).total_seconds()
        tally.add(DURATION, execution.task_type, str(to), seconds=took)
        if execution.status in ACTIVE and execution.dispatched_at:
            waited = (execution.dispatched_at - execution.queued_at).total_seconds()
            tally.add(WAIT, execution.task_type, seconds=waited)
    if to == Status.SUCCESS:
        for stage, seconds in _stages_of(execution, took + CLOCK_SLACK):
            tally.add(STAGE, execution.task_type, stage, seconds=seconds)
    tally.write()


def _count_failure(tally: Tally, execution: Any, fields: Mapping[str, Any]) -> None:
    kind, stage, party = (
        str(fields.get(name, getattr(execution, name))) for name in ("error_type", "error_stage", "error_party")
    )
    known = {*stages(), *EARLY_STAGES}
    tally.add(FAILED, kind if kind in ERRORS else OTHER, stage if stage in known else OTHER)
    if execution.status not in ACTIVE:
        # No party ran in this attempt: it was a party's host that did not reach another in the checks before it
        if is_link(kind) and party:
            tally.add(LINK, party)
        return
    links = [name for name in ERRORS if is_link(name)]
    # Not the lost: these have no link, and no error of their own
    broken = execution.runs.filter(attempt=execution.attempt, status=RunStatus.FAILURE, error_type__in=links)
    for name in broken.filter(caused_by_peer=False).order_by().values_list("party__name", flat=True):
        tally.add(LINK, name)


def _stages_of(execution: Any, most: float) -> Iterator[tuple[str, float]]:
    """Yield the seconds of each stage at each party, from its first event to that of the next stage; ``most``: what
    cannot be. Takes two queries."""
    runs = execution.runs.filter(attempt=execution.attempt).order_by()
    took = dict(runs.values_list("party__name", "execution_seconds"))
    events = execution.events.filter(attempt=execution.attempt, stage__in=stages()).order_by()
    began: dict[str, dict[str, datetime]] = {}
    for party, stage, first in events.values_list("party", "stage").annotate(Min("timestamp")):
        began.setdefault(party, {})[stage] = first
    for party, found in began.items():
        found.pop("cleanup", None)  # it is still to come when an execution has succeeded
        if not found:
            continue
        start = min(found.values())
        # One clock tells all of a party's times, so that their differences are right whatever it shows
        offsets = sorted(((at - start).total_seconds(), stages().index(stage), stage) for stage, at in found.items())
        end = took.get(party)
        ends = [offset for offset, *_rest in offsets[1:]] + ([end] if end is not None else [])
        for (offset, _party, stage), following in zip(offsets, ends, strict=False):
            if 0 <= following - offset <= most:
                yield stage, following - offset
