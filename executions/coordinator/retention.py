"""The kinds of rows that grow old: which of them may go, and how a few of them are removed in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Max, Model, Q, QuerySet
from knox.models import get_token_model

from controlplane.environment import environment
from controlplane.models import Dataset, KeptAnswer
from controlplane.models.versioned import Versioned
from executions.models import (
    DeadLetter,
    Execution,
    ExecutionEvent,
    LogChunk,
    Notification,
    PartyRun,
    PipelineRun,
    Preflight,
    StateChange,
    Tick,
    WebhookDelivery,
)
from executions.states import ENDED

#: Rows that hang on what is removed, of one table: if there are more, some of them are removed first.
MOST_AT_ONCE = 2000
#: Characters of an execution's id at the beginning of an alignment.
ID_LENGTH = 36

Place = tuple[Any, Any]


class Page(NamedTuple):
    """Some rows in their order."""

    old: list[Any]
    #: Where the next page begins; None if there is none.
    end: Place | None
    #: The time of the last row.
    at: datetime | None


class Kind:
    """Rows of one table, each of which is removed a while after its time.

    All are found by an index: ``along`` is a field with one, and rows are looked at in its order. It is no later than
    ``time``, or the primary key: then the search ends at the first row that is not old, unless keys are in no order.
    """

    #: Whether a row with a greater primary key is no older.
    has_sorted_keys = True

    def __init__(self, name: str, setting: str, model: type[Model], time: str, along: str = "pk") -> None:
        self.name, self.setting, self.model, self.time, self.along = name, setting, model, time, along

    def limit(self, now: datetime) -> datetime | None:
        """Return the time before which rows are old; None if they are kept for ever."""
        days = getattr(environment, self.setting)
        return now - timedelta(days=days) if days else None

    def page(self, limit: datetime, after: Place | None, length: int) -> Page:
        """Return the old ones among the next rows."""
        rows = self.rows().order_by(self.along, "pk")
        if self.along != "pk":
            rows = rows.filter(**{f"{self.along}__lt": limit})
        if after:
            rows = rows.filter(**{f"{self.along}__gte": after[0]})
            rows = rows.filter(Q(**{f"{self.along}__gt": after[0]}) | Q(pk__gt=after[1]))
        found = list(rows.values(*{self.along, "pk", self.time})[:length])
        old = [row["pk"] for row in found if row[self.time] is not None and row[self.time] < limit]
        is_last = len(found) < length or (self.along == "pk" and self.has_sorted_keys and len(old) < len(found))
        end = None if is_last else (found[-1][self.along], found[-1]["pk"])
        return Page(old, end, found[-1][self.time] if found else None)

    def rows(self) -> QuerySet[Any]:
        return self.model._base_manager.all()

    def removable(self, old: Sequence[Any], *, with_runs_before: datetime | None = None) -> list[Any]:
        """Return those that nothing needs any more. ``with_runs_before``: as if all pipeline runs that ended before
        were gone."""
        return list(old)

    def held(self, keys: Iterable[Any]) -> QuerySet[Any]:
        """Return what is still to be removed of these, locked in one order: another process that removes the same is
        left to it, and nobody waits for nobody."""
        return self.rows().select_for_update(skip_locked=True, of=("self",)).filter(pk__in=list(keys)).order_by("pk")

    def remove(self, keys: Sequence[Any]) -> tuple[Counter[str], bool]:
        """Remove rows, with all that hangs on them, in one transaction. Returns how many of each model, and whether
        that was all: of what has very much hanging on it, only some of that is removed."""
        with transaction.atomic():
            held = list(self.held(keys).values_list("pk", flat=True))
            some = self._some_of_many(held)
            doomed = some if some is not None else self.rows().filter(pk__in=held).only("pk")
            counts = doomed.delete()[1]
        return Counter({label.split(".")[1]: number for label, number in counts.items()}), some is None

    def _some_of_many(self, held: list[Any]) -> QuerySet[Any] | None:
        """Return what hangs on these and has to go first; None if it is not too much for one transaction."""
        return None


class Executions(Kind):
    """Ended executions, with their runs, events, lines of logs, changes of state and pre-flight checks."""

    def __init__(self) -> None:
        super().__init__("executions", "keep_executions_days", Execution, "ended_at", "created_at")
        self._named: set[str] | None = None

    def page(self, limit: datetime, after: Place | None, length: int) -> Page:
        if after is None:
            self._named = None
        return super().page(limit, after, length)

    def removable(self, old: Sequence[Any], *, with_runs_before: datetime | None = None) -> list[Any]:
        """Leave out what is not over, what a dataset names, and what a pipeline run has: it goes after that run."""
        alone = Q(node=None)
        if with_runs_before:
            alone |= Q(node__run__status__in=ENDED, node__run__ended_at__lt=with_runs_before)
        ended = Execution.objects.filter(alone, pk__in=old, status__in=ENDED).order_by("created_at", "pk")
        # A party's process may still be there, whatever came of the execution
        unreleased = PartyRun.objects.filter(execution__in=old, released_at=None)
        kept = set(unreleased.order_by().values_list("execution", flat=True))
        named = self._named_by_datasets()
        return [pk for pk in ended.values_list("pk", flat=True) if pk not in kept and str(pk) not in named]

    def _named_by_datasets(self) -> set[str]:
        """Return the executions that made a table, or put its rows in order. Read once: what ended long ago makes no
        more."""
        if self._named is None:
            told = Dataset.objects.order_by().values_list("produced_by", "alignment").iterator()
            self._named = {str(name) for made, order in told for name in (made, order[:ID_LENGTH]) if name}
        return self._named

    def _some_of_many(self, held: list[Any]) -> QuerySet[Any] | None:
        for model in (ExecutionEvent, LogChunk, Preflight, StateChange):
            rows: QuerySet[Any] = model._base_manager.order_by()
            keys = list(rows.filter(execution__in=held).values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
            if len(keys) > MOST_AT_ONCE:
                return rows.filter(pk__in=keys[:MOST_AT_ONCE])
        return None


class PipelineRuns(Kind):
    """Ended runs of pipelines, with their nodes and changes of state. Their executions are then executions like any."""

    def rows(self) -> QuerySet[Any]:
        # Asked again under the lock: what has failed may have been retried
        return super().rows().filter(status__in=ENDED)


class Preflights(Kind):
    """Pre-flight checks that somebody asked for. Those of executions go with these."""

    def removable(self, old: Sequence[Any], *, with_runs_before: datetime | None = None) -> list[Any]:
        return list(Preflight.objects.filter(pk__in=old, execution=None).values_list("pk", flat=True))


class Ticks(Kind):
    """Times at which schedules were due."""

    def removable(self, old: Sequence[Any], *, with_runs_before: datetime | None = None) -> list[Any]:
        """Leave out those that have something running: a schedule begins nothing until that has ended."""
        ticks = Tick.objects.filter(pk__in=old)
        running = ticks.exclude(execution=None).exclude(execution__status__in=ENDED).values_list("pk", flat=True)
        runs = ticks.exclude(pipeline_run=None).exclude(pipeline_run__status__in=ENDED).values_list("pk", flat=True)
        kept = {*running, *runs}
        return [pk for pk in old if pk not in kept]


class Tokens(Kind):
    """API tokens, which expire. Their keys are digests."""

    has_sorted_keys = False


class Versions(Kind):
    """Older versions of what is registered.

    The newest version of each row is kept, and the newest by each user: whether a schedule may run in its owner's name
    depends on whether anybody else has changed what it runs. Of a deleted row, all go.
    """

    def removable(self, old: Sequence[Any], *, with_runs_before: datetime | None = None) -> list[Any]:
        versions = self.rows().filter(pk__in=old).values_list("pk", "id", "history_user_id")
        every = self.rows().filter(id__in={row for _, row, _ in versions}).order_by()
        told = every.values_list("id", "history_user_id").annotate(newest=Max("pk"))
        newest_by = {(row, user): pk for row, user, pk in told}
        newest: dict[Any, Any] = {}
        for (row, _), pk in newest_by.items():
            newest[row] = max(pk, newest.get(row, pk))
        deletions = self.rows().filter(pk__in=newest.values(), history_type="-")
        gone = set(deletions.filter(pk__in=old).values_list("id", flat=True))
        kept = {*newest_by.values(), *newest.values()}
        return [pk for pk, row, _ in versions if row in gone or pk not in kept]


def kinds() -> list[Kind]:
    """Return all kinds, in the order in which they are removed: pipeline runs before their executions."""
    return [
        PipelineRuns("pipeline runs", "keep_pipeline_runs_days", PipelineRun, "ended_at", "created_at"),
        Executions(),
        Preflights("pre-flight checks", "keep_executions_days", Preflight, "requested_at", "requested_at"),
        Ticks("schedule ticks", "keep_ticks_days", Tick, "at"),
        Kind("lines of logs", "keep_logs_days", LogChunk, "received_at"),
        Kind("dead letters", "keep_dead_letters_days", DeadLetter, "at", "at"),
        Kind("webhook deliveries", "keep_deliveries_days", WebhookDelivery, "created_at", "created_at"),
        Kind("notifications", "keep_notifications_days", Notification, "at"),
        *(
            Versions("history", "keep_history_days", history, "history_date", "history_date")
            for history in (model.history.model for model in apps.get_models() if issubclass(model, Versioned))
        ),
        Kind("history", "keep_history_days", LogEntry, "action_time"),
        Kind("sessions", "keep_sessions_days", Session, "expire_date", "expire_date"),
        Kind("answers to writes", "keep_answers_days", KeptAnswer, "since", "since"),
        Tokens("API tokens", "keep_tokens_days", get_token_model(), "expiry"),
    ]
