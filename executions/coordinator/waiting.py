"""The queued executions as the dispatcher sees them, in the order in which they go. There may be many thousands."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import CharField
from django.db.models.functions import Cast

from executions.models import Execution
from executions.patience import Since
from executions.states import Status

#: How many seconds longer an execution must have waited to go before one with one more point of priority.
POINT_OF_PRIORITY = 60.0
#: From so many new ones on all are read: a list of their keys would be long.
MANY = 500


@dataclass(frozen=True, slots=True)
class Waiting:
    """The few fields of a queued execution that the dispatcher needs."""

    pk: UUID
    parties: list[str]
    priority: int
    created_at: datetime
    queued_at: datetime
    attempt: int
    retries: dict[str, int]
    dispatch_limit_seconds: int

    submitted: Since = field(init=False)
    queued: Since = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "submitted", Since(self.created_at))
        object.__setattr__(self, "queued", Since(self.queued_at))

    @property
    def rank(self) -> float:
        """The place in the queue: the lowest goes first. Counted from the submission, so that a retry keeps its
        place."""
        return self.submitted.began - self.priority * POINT_OF_PRIORITY

    @property
    def is_late(self) -> bool:
        """Whether it has waited for longer than it may."""
        return self.queued.is_over(timedelta(seconds=self.dispatch_limit_seconds))


COLUMNS = [column.name for column in fields(Waiting) if column.init]


class WaitingList:
    """Keeps what was read of queued executions between the dispatcher's steps: it stays as it is until one is queued
    anew."""

    def __init__(self) -> None:
        #: By key and time of queueing, as the database writes them.
        self._known: dict[tuple[str, str], Waiting] = {}
        self._in_order: list[Waiting] = []

    def read(self) -> list[Waiting]:
        """Return the queued executions in their order. Takes one query, and one more if there are new ones."""
        text = CharField()
        # As text: of ten thousand rows that takes a tenth of the time
        keys = {"key": Cast("pk", text), "since": Cast("queued_at", text)}
        rows = Execution.objects.filter(status=Status.QUEUED).order_by().annotate(**keys)
        queued = set(rows.values_list(*keys))
        new = queued - self._known.keys()
        if not new and len(queued) == len(self._known):
            return self._in_order
        self._known = {key: found for key, found in self._known.items() if key in queued}
        if new:
            unread = rows if len(new) > MANY else rows.filter(pk__in=[UUID(key) for key, _ in new])
            columns = unread.values_list(*keys, *COLUMNS)
            self._known |= {(key, since): Waiting(*row) for key, since, *row in columns}
        self._in_order = sorted(self._known.values(), key=lambda waiting: waiting.rank)
        return self._in_order


def reasons_noted() -> dict[UUID, str]:
    """Return why each queued execution waits, as was noted last."""
    return dict(Execution.objects.filter(status=Status.QUEUED).order_by().values_list("pk", "waiting_for"))
