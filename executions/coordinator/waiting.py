"""The queued executions as the dispatcher sees them, in the order in which they go. There may be many thousands."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import CharField
from django.db.models.functions import Cast

from executions.models import Execution
from executions.states import Status

#: How much longer an execution must have waited to go before one with one more point of priority.
POINT_OF_PRIORITY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The few fields of a queued execution that the dispatcher needs."""

    pk: UUID
    parties: list[str]
    priority: int
    created_at: datetime
    queued_at: datetime
    waiting_for: str
    attempt: int
    retries: dict[str, int]
    dispatch_limit_seconds: int

    @property
    def rank(self) -> datetime:
        """Return the place in the queue: the earliest goes first. It counts from the submission, so that a retry keeps
        its place."""
        return self.created_at - self.priority * POINT_OF_PRIORITY

    @property
    def has_to_begin_by(self) -> datetime:
        return self.queued_at + timedelta(seconds=self.dispatch_limit_seconds)


class WaitingList:
    """Keeps what was read of queued executions between the dispatcher's steps: all but ``waiting_for`` of one stays as
    it is until it is queued anew."""

    def __init__(self) -> None:
        #: By key and time of queueing, as the database writes them.
        self._known: dict[tuple[str, str], Waiting] = {}
        self._in_order: list[tuple[str, str]] = []

    def read(self) -> list[Waiting]:
        """Return the queued executions in their order. Takes one query, and one more if there are new ones."""
        queued = Execution.objects.filter(status=Status.QUEUED).order_by()
        text = CharField()
        # As text: of ten thousand rows that is the tenth of the time
        rows = queued.annotate(key=Cast("pk", text), since=Cast("queued_at", text))
        reasons = {(key, since): why for key, since, why in rows.values_list("key", "since", "waiting_for")}
        if new := reasons.keys() - self._known.keys():
            unread = rows if len(new) > 500 else rows.filter(pk__in=[UUID(key) for key, _ in new])
            names = [field.name for field in fields(Waiting)]
            self._known |= {
                (key, since): Waiting(*row) for key, since, *row in unread.values_list("key", "since", *names)
            }
        if reasons.keys() != self._known.keys():
            self._known = {key: found for key, found in self._known.items() if key in reasons}
        if new or len(self._in_order) != len(self._known):
            self._in_order = sorted(self._known, key=lambda key: self._known[key].rank)
        return [self._as_now(key, reasons[key]) for key in self._in_order]

    def _as_now(self, key: tuple[str, str], waiting_for: str) -> Waiting:
        found = self._known[key]
        if found.waiting_for != waiting_for:
            found = self._known[key] = replace(found, waiting_for=waiting_for)
        return found
