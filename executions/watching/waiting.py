"""Waiting for one execution, in the thread of a request."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import BoundedSemaphore, Event

from django.db import connection

from executions.watching.changes import Change
from executions.watching.hub import hub

#: Requests that may wait at once in one process, each with a thread; others are answered at once.
MOST = 200
#: One for each request that may wait. Streams do not count, which have no thread: with many of them open, who wants to
#: wait would ask without end instead.
_free = BoundedSemaphore(MOST)


def wait_until(execution: str, is_over: Callable[[], bool], seconds: float) -> None:
    """Return once something is over, which is asked whenever something has happened to the execution, or after so many
    seconds. No connection of the database is held meanwhile."""
    if not _free.acquire(blocking=False):
        return
    heard = Event()

    def tell(found: list[Change]) -> None:
        if any(change.execution == execution for change in found):
            heard.set()

    try:
        number = hub.join(tell, is_in_hurry=True)
        try:
            _wait(heard, is_over, seconds)
        finally:
            hub.leave(number)
    finally:
        _free.release()


def _wait(heard: Event, is_over: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_over():
        if not connection.in_atomic_block:
            connection.close()
        left = end - time.monotonic()
        if left <= 0 or not heard.wait(left):
            return
        heard.clear()
