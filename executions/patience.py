"""How long something has been so, also where clocks step: what the coordinators' time limits go by."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone


class Patience:
    """Counts for how long things have been so, from the times at which they began as the database has them.

    The time of day tells that alone only where nobody sets a clock. Put forward by an hour it would end every run that
    is under way; put back, nothing would end for an hour; and two coordinators' hosts may differ. So the time since a
    thing was first seen here is counted by the monotonic clock. Of the time before that the time of day is believed for
    half of a limit, and not for more than since the last look, at which the thing was not there. A coordinator that
    was just started thus takes up to half a limit more.
    """

    #: False where only the monotonic clock counts from the first look on. Tests set the times that are in the database.
    believes_clock = False
    #: Things that are remembered where nobody says which are left.
    MOST = 20_000

    def __init__(self) -> None:
        #: By thing: when it began, for how many seconds that was so at the first look, and the first look's time.
        self._seen: dict[Hashable, tuple[datetime, float, float]] = {}
        self._looked_at: float | None = None

    def look(self, things: Mapping[Any, datetime]) -> None:
        """Take in all that there is now, each with the time at which it began. The rest is forgotten."""
        seen = {key: self._first_look(key, since) for key, since in things.items()}
        self._seen, self._looked_at = seen, time.monotonic()

    def seconds(self, key: Hashable, since: datetime, limit: timedelta) -> float:
        """Return for how long a thing that began then has been so. ``limit``: what that is compared with."""
        if self.believes_clock:
            return (timezone.now() - since).total_seconds()
        known = self._seen.get(key)
        if known is None or known[0] != since:
            if len(self._seen) >= self.MOST:
                self._seen.clear()
            known = self._seen[key] = self._first_look(key, since)
        _, before, first_look = known
        return min(before, limit.total_seconds() / 2) + time.monotonic() - first_look

    def is_over(self, key: Hashable, since: datetime, limit: timedelta) -> bool:
        """Return whether a thing that began then has been so for longer than the limit."""
        return self.seconds(key, since, limit) > limit.total_seconds()

    def _first_look(self, key: Hashable, since: datetime) -> tuple[datetime, float, float]:
        known = self._seen.get(key)
        if known and known[0] == since:
            return known
        now, before = time.monotonic(), max(0.0, (timezone.now() - since).total_seconds())
        return since, before if self._looked_at is None else min(before, now - self._looked_at), now
