"""One thread of a web process that looks for what has happened, for all who watch."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any

from django.db import DatabaseError, InterfaceError, connection
from django.db.models import QuerySet

from executions.models import ExecutionEvent, StateChange
from executions.watching.changes import Change, Position, changes, events, merged

log = logging.getLogger(__name__)

#: Seconds between two looks at the database, and rows of one look.
INTERVAL, MOST = 0.25, 500
#: With more who are in no hurry each of them is told less often, down to once in four looks, and each look tells a part
#: of them: to tell 500 at once would keep all requests waiting.
UNHURRIED, MOST_PARTS = 100, 4
#: Seconds in which a transaction that got a lower key may still end: rows appear in the order of commits.
LATE = 5.0
#: Seconds for which the thread stays after the last who watched.
LINGERS = 10.0


class Tail:
    """The end of a table to which rows are added."""

    def __init__(self, read: Callable[[QuerySet[Any], int], Iterable[Change]], model: Any, low: int) -> None:
        self._read, self._model = read, model
        #: All up to here was seen, and nothing below it can come any more.
        self._low = low
        #: By key: when a row beyond that was seen.
        self._seen: dict[int, float] = {}

    def new(self) -> list[Change]:
        """Return what has been added since the last call. Takes one query."""
        now = time.monotonic()
        if old := [key for key, at in self._seen.items() if at < now - LATE]:
            self._low = max(old)
            self._seen = {key: at for key, at in self._seen.items() if key > self._low}
        rows = self._model.objects.filter(pk__gt=self._low).exclude(pk__in=list(self._seen))
        found = list(self._read(rows, MOST))
        self._seen |= dict.fromkeys((row.pk for row in found), now)
        return found


@dataclass(slots=True)
class Watcher:
    """Somebody who is told."""

    tell: Callable[[list[Change]], None]
    is_in_hurry: bool
    #: The look whose changes it was told last, and the one after which it is told again.
    told: int
    due: int


class Hub:
    """Calls everybody who watches with what has happened, in a thread of its own."""

    def __init__(self) -> None:
        self._watching: dict[int, Watcher] = {}
        self._numbers = self._looks = 0
        self._lock = Lock()
        self._thread: Thread | None = None

    def __len__(self) -> int:
        return len(self._watching)

    def join(self, tell: Callable[[list[Change]], None], *, is_in_hurry: bool = False) -> int:
        """Begin to watch: ``tell`` is called in the hub's thread, and must not wait. Returns a number for ``leave``.
        What happens after this call is told, and perhaps what happened shortly before; after each look if it
        ``is_in_hurry``."""
        position = Position.newest() if self._thread is None else None
        with self._lock:
            self._numbers += 1
            due = self._looks + 1 + self._numbers % self._parts
            # Of the latest look, too: it may be about to find what happens after this call
            self._watching[self._numbers] = Watcher(tell, is_in_hurry, self._looks - 1, due)
            if self._thread is None:
                self._thread = Thread(
                    target=self._run, args=[position or Position.newest()], name="watching", daemon=True
                )
                self._thread.start()
            return self._numbers

    @property
    def _parts(self) -> int:
        """Return in how many looks each of those who are in no hurry is told."""
        return min(max(len(self) // UNHURRIED, 1), MOST_PARTS)

    def leave(self, number: int) -> None:
        """End watching."""
        with self._lock:
            self._watching.pop(number, None)

    def _run(self, position: Position) -> None:
        states = Tail(changes, StateChange, position.change)
        reported = Tail(events, ExecutionEvent, position.event)
        idle_since = None
        #: What the latest looks found: of as many as somebody may not have been told of yet.
        recent: deque[tuple[int, list[Change]]] = deque(maxlen=2 * MOST_PARTS)
        while True:
            with self._lock:
                now = time.monotonic()
                idle_since = None if self._watching else idle_since or now
                if idle_since is not None and now - idle_since > LINGERS:
                    self._thread = None
                    break
                watching = list(self._watching.values())
                self._looks += 1
            found: list[Change] = []
            try:
                found = merged(states.new(), reported.new()) if watching else []
            except (DatabaseError, InterfaceError) as error:
                log.warning("who watches has to wait: the database did not answer (%s)", type(error).__name__)
                connection.close()
            except Exception:  # nobody would be told of anything any more
                log.exception("who watches has to wait")
            recent.append((self._looks, found))
            for watcher in watching:
                if watcher.is_in_hurry or watcher.due <= self._looks:
                    if news := [change for look, some in recent if look > watcher.told for change in some]:
                        _tell(watcher.tell, news)
                    watcher.told, watcher.due = self._looks, self._looks + self._parts
            if len(found) < MOST:
                time.sleep(INTERVAL)
        connection.close()


def _tell(tell: Callable[[list[Change]], None], found: list[Change]) -> None:
    try:
        tell(found)
    except Exception:  # one who cannot be told, as its loop has ended, keeps nobody else from being told
        log.exception("somebody who watches was not told")


#: The hub of this process.
hub = Hub()
