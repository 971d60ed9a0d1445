"""How long something has been so, also where clocks step: what the coordinators' time limits go by."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone


class Since:
    """For how long a thing has been so, from the time at which it began as the database has it.

    The time of day tells that alone only where nobody sets a clock. Put forward by an hour it would end every run that
    is under way; put back, nothing would end for an hour; and two coordinators' hosts may differ. So the time since a
    thing was first seen here is counted by the monotonic clock. Of the time before that the time of day is believed for
    half of a limit at most. A coordinator that was just started thus takes up to half a limit more.
    """

    __slots__ = ("_before", "_first_look", "at")

    def __init__(self, at: datetime, most: float | None = None) -> None:
        """``most``: seconds since the thing was not so yet, if that is known."""
        before = max(0.0, (timezone.now() - at).total_seconds())
        self.at, self._first_look = at, time.monotonic()
        self._before = before if most is None else min(before, most)

    def seconds(self, limit: timedelta) -> float:
        """Return for how long it has been so. ``limit``: what that is compared with."""
        return min(self._before, limit.total_seconds() / 2) + time.monotonic() - self._first_look

    def is_over(self, limit: timedelta) -> bool:
        """Return whether it has been so for longer than the limit."""
        return self.seconds(limit) > limit.total_seconds()

    @property
    def began(self) -> float:
        """The monotonic time at which it began, if all of the time of day is believed that was told at the first look.
        It stays the same, and things can be put in order by it."""
        return self._first_look - self._before

    @property
    def whole_seconds(self) -> float:
        """For how long it has been so, if all of that is believed: where little depends on it."""
        return time.monotonic() - self.began


class Patience:
    """Counts for how long things have been so that are looked at again and again."""

    #: Things that are remembered where nobody says which are left.
    MOST = 20_000

    def __init__(self) -> None:
        self._seen: dict[Hashable, Since] = {}
        self._looked_at: float | None = None

    def look(self, things: Mapping[Any, datetime]) -> None:
        """Take in all that there is now, each with the time at which it began. The rest is forgotten."""
        self._seen = {key: self._since(key, at) for key, at in things.items()}
        self._looked_at = time.monotonic()

    def seconds(self, key: Hashable, at: datetime, limit: timedelta) -> float:
        """Return for how long a thing that began then has been so. ``limit``: what that is compared with."""
        if len(self._seen) >= self.MOST:
            self._seen.clear()
        since = self._seen[key] = self._since(key, at)
        return since.seconds(limit)

    def is_over(self, key: Hashable, at: datetime, limit: timedelta) -> bool:
        """Return whether a thing that began then has been so for longer than the limit."""
        return self.seconds(key, at, limit) > limit.total_seconds()

    def _since(self, key: Hashable, at: datetime) -> Since:
        known = self._seen.get(key)
        if known and known.at == at:
            return known
        # At the look before, it was not there
        return Since(at, None if self._looked_at is None else time.monotonic() - self._looked_at)
