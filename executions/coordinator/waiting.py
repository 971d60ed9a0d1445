"""The queued executions as the dispatcher sees them, in the order in which they go. There may be many thousands."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import CharField
from django.db.models.functions import Cast
from django.utils import timezone

from executions.models import Execution
from executions.patience import Since
from executions.states import Status

#: How many seconds longer an execution must have waited to go before one with one more point of priority.
POINT_OF_PRIORITY = 60.0
#: From so many new ones on all are read: a list of their keys would be long.
MANY = 500


@dataclass(slots=True, eq=False)
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
    #: The reason why it waits, as was noted last.
    waiting_for: str
    #: Whether it is known to be no longer queued.
    is_gone: bool = field(default=False, init=False)

    submitted: Since = field(init=False)
    queued: Since = field(init=False)

    def __post_init__(self) -> None:
        self.submitted, self.queued = Since(self.created_at), Since(self.queued_at)

    @property
    def rank(self) -> float:
        """Return the place in the queue: the lowest goes first. It counts from the submission, so that a retry keeps
        its place."""
        return self.submitted.began - self.priority * POINT_OF_PRIORITY

    @property
    def is_late(self) -> bool:
        """Return whether it has waited for longer than it may."""
        return self.queued.is_over(timedelta(seconds=self.dispatch_limit_seconds))


COLUMNS = [column.name for column in fields(Waiting) if column.init]


class WaitingList:
    """Keeps what was read of queued executions between the dispatcher's steps.

    What was queued a moment ago is seen at once. Whatever else happened to the queue is seen within a second: whoever
    dispatches an execution looks at it again in any case.
    """

    #: Seconds between two readings of the whole queue: ten thousand rows take a while.
    WHOLE_SECONDS = 1.0
    #: By how much the clocks of those who queue may differ, and their transactions last, to be seen at once.
    OVERLAP = timedelta(seconds=2)

    def __init__(self) -> None:
        #: By key and time of queueing, as the database writes them.
        self._known: dict[tuple[str, str], Waiting] = {}
        self._in_order: list[Waiting] = []
        #: When the last one was queued.
        self._newest = timezone.now()
        #: Monotonic time at which the whole queue is read again.
        self._whole_at = 0.0
        #: Whether the last reading was of the whole queue.
        self.is_whole = True
        #: All parties that something waits for.
        self.parties: set[str] = set()

    def read(self) -> list[Waiting]:
        """Return the queued executions in their order. Takes one query, and one more if there are new ones."""
        text = CharField()
        # As text: of ten thousand rows that takes a tenth of the time
        keys = {"key": Cast("pk", text), "since": Cast("queued_at", text)}
        queue = Execution.objects.filter(status=Status.QUEUED).order_by().annotate(**keys)
        rows, self.is_whole = queue, not self._in_order or time.monotonic() >= self._whole_at
        if self.is_whole:
            self._whole_at = time.monotonic() + self.WHOLE_SECONDS
        else:
            # The newest may be of a clock that was ahead
            rows = queue.filter(queued_at__gt=min(self._newest, timezone.now()) - self.OVERLAP)
        found = {(key, since): reason for key, since, reason in rows.values_list(*keys, "waiting_for")}
        new = found.keys() - self._known.keys()
        if new:
            unread = queue if len(new) > MANY else queue.filter(pk__in=[UUID(key) for key, _ in new])
            columns = unread.values_list(*keys, *COLUMNS)
            self._known |= {(key, since): Waiting(*row) for key, since, *row in columns if (key, since) in new}
        if self.is_whole:
            self._known = {key: waiting for key, waiting in self._known.items() if key in found}
        for key in found.keys() & self._known.keys():
            self._known[key].waiting_for = found[key]
            if self.is_whole:
                self._known[key].is_gone = False
        if new or self.is_whole:
            self._in_order = sorted(self._known.values(), key=lambda waiting: waiting.rank)
            self._newest = max((waiting.queued_at for waiting in self._in_order), default=self._newest)
            self.parties = {party for waiting in self._in_order for party in waiting.parties}
        self._in_order = [waiting for waiting in self._in_order if not waiting.is_gone]
        return self._in_order
