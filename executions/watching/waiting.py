"""Waiting for one execution, in the thread of a request."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

from django.db import connection

from executions.watching.changes import Change
from executions.watching.hub import hub

#: Requests that may wait at once in one process, each with a thread; others are answered at once.
MOST = 200


def wait_until(execution: str, is_over: Callable[[], bool], seconds: float) -> None:
    """Return once something is over, which is asked whenever something has happened to the execution, or after so many
    seconds. No connection of the database is held meanwhile."""
    if len(hub) >= MOST:
        return
    heard = Event()

    def tell(found: list[Change]) -> None:
        if any(change.execution == execution for change in found):
            heard.set()

    number = hub.join(tell)
    try:
        end = time.monotonic() + seconds
        while not is_over():
            if not connection.in_atomic_block:
                connection.close()
            left = end - time.monotonic()
            if left <= 0 or not heard.wait(left):
                return
            heard.clear()
    finally:
        hub.leave(number)
