"""The queued executions as the dispatcher sees them, in the order in which they go. There may be many thousands."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import CharField
from django.db.models.functions import Cast

from executions.models import Execution
from executions.patience import Patience
from executions.states import Status

#: How much longer an execution must have waited to go before one with one more point of priority.
POINT_OF_PRIORITY = timedelta(minutes=1)
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

    @property
    def rank(self) -> datetime:
        """Return the place in the queue: the earliest goes first. It counts from the submission, so that a retry keeps
        its place."""
        return self.created_at - self.priority * POINT_OF_PRIORITY

    @property
    def limit(self) -> timedelta:
        return timedelta(seconds=self.dispatch_limit_seconds)


class WaitingList:
    """Keeps what was read of queued executions between the dispatcher's steps: it stays as it is until one is queued
    anew."""

    def __init__(self) -> None:
        #: By key and time of queueing, as the database writes them.
        self._known: dict[tuple[str, str], Waiting] = {}
        self._in_order: list[Waiting] = []
        self._patience = Patience()

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
            columns = unread.values_list(*keys, *(field.name for field in fields(Waiting)))
            self._known |= {(key, since): Waiting(*row) for key, since, *row in columns}
        self._in_order = sorted(self._known.values(), key=lambda waiting: waiting.rank)
        self._patience.look({waiting.pk: waiting.queued_at for waiting in self._in_order})
        return self._in_order

    def is_passed_over(self, waiting: Waiting, limit: timedelta) -> bool:
        """Return whether it has waited for longer than the limit. The time of day is believed for what was before this
        process looked: coordinators that are restarted often are to hold parties for it all the same."""
        return self._patience.seconds(waiting.pk, waiting.queued_at, timedelta.max) > limit.total_seconds()

    def seconds(self, waiting: Waiting, limit: timedelta) -> float:
        """Return for how long it has waited. ``limit``: what that is compared with."""
        return self._patience.seconds(waiting.pk, waiting.queued_at, limit)

    def is_over(self, waiting: Waiting, limit: timedelta) -> bool:
        """Return whether it has waited for longer than the limit."""
        return self._patience.is_over(waiting.pk, waiting.queued_at, limit)


def reasons_noted() -> dict[UUID, str]:
    """Return why each queued execution waits, as was noted last."""
    return dict(Execution.objects.filter(status=Status.QUEUED).order_by().values_list("pk", "waiting_for"))
