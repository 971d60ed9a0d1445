"""What there is to be told: changes of executions' states, and the parties' events, in the order of their rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Max, QuerySet

from controlplane.api.query import whole_number
from executions.models import ExecutionEvent, StateChange

#: Fields of an execution that a change shows, or is chosen by.
_OF_EXECUTION = tuple(f"execution__{name}" for name in ("name", "task_type", "parties", "labels"))


class Position(NamedTuple):
    """How far somebody has read: the newest row of each kind."""

    change: int
    event: int

    def __str__(self) -> str:
        return f"{self.change}.{self.event}"

    @classmethod
    def read(cls, text: str) -> Position | None:
        """Return the position that a text stands for; None if it is none."""
        first, _, second = text.partition(".")
        change, event = whole_number(first, 18), whole_number(second, 18)
        return None if change is None or event is None else cls(change, event)

    @classmethod
    def newest(cls) -> Position:
        """Return the position behind everything that there is."""
        newest = (model.objects.order_by().aggregate(Max("pk"))["pk__max"] for model in (StateChange, ExecutionEvent))
        return cls(*(key or 0 for key in newest))

    def after(self, row: Change) -> Position:
        """Return the position behind a row that follows this one."""
        if row.kind == STATE:
            return self._replace(change=max(self.change, row.pk))
        return self._replace(event=max(self.event, row.pk))


#: Kinds of what is told.
STATE, EVENT = "state", "event"


@dataclass(frozen=True)
class Change:
    """Something that happened to an execution."""

    kind: str
    pk: int
    at: datetime
    execution: str
    parties: frozenset[str]
    labels: dict[str, str]
    data: dict[str, Any]

    @cached_property
    def text(self) -> str:
        """Return it as JSON: made once, for all who are told."""
        return json.dumps({"id": f"{self.kind}-{self.pk}", **self.data}, cls=DjangoJSONEncoder)


def changes(rows: QuerySet[StateChange], most: int) -> Iterable[Change]:
    """Return the first changes of state in the order of their rows."""
    fields = ("pk", "execution", "at", "from_status", "to_status", "why", *_OF_EXECUTION)
    for row in rows.order_by("pk").values(*fields)[:most]:
        told = {"status": row["to_status"], "from_status": row["from_status"], "at": row["at"], "why": row["why"]}
        yield _made(STATE, row, row["at"], told)


def events(rows: QuerySet[ExecutionEvent], most: int) -> Iterable[Change]:
    """Return the first of the parties' events in the order of their rows."""
    shown = ("party", "attempt", "sequence", "status", "stage", "timestamp", "received_at", "data")
    for row in rows.order_by("pk").values("pk", "execution", *shown, *_OF_EXECUTION)[:most]:
        yield _made(EVENT, row, row["received_at"], {name: row[name] for name in shown})


def merged(first: Iterable[Change], second: Iterable[Change]) -> list[Change]:
    """Return both by their times. Each keeps its own order: that of its rows, by which positions count."""
    left, right = list(first), list(second)
    found = []
    while left and right:
        found.append((left if left[0].at <= right[0].at else right).pop(0))
    return [*found, *left, *right]


def _made(kind: str, row: dict[str, Any], at: datetime, told: dict[str, Any]) -> Change:
    parties, execution = row["execution__parties"], str(row["execution"])
    about = {"execution": execution, "name": row["execution__name"], "task_type": row["execution__task_type"]}
    return Change(
        kind,
        row["pk"],
        at,
        execution,
        frozenset(map(str, parties)),
        dict(row["execution__labels"]),
        {**about, "parties": parties, "labels": row["execution__labels"], **told},
    )
