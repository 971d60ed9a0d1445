"""One pass over all that is old: it removes what nothing needs any more, a few rows in each transaction."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.utils import timezone

from executions.coordinator.isolation import alone
from executions.coordinator.retention import Kind, Place, kinds

log = logging.getLogger(__name__)

#: Rows that are looked at with one query.
PAGE = 500
#: Seconds that a transaction should take; the fewest rows that it has, even where the disk is busy for a while; how
#: many the first has, and the most, where the database is fast.
TRANSACTION_SECONDS, FEWEST, FEW, MOST = 0.05, 5, 20, 500

#: Is called with a kind and keys before these are removed. What it raises keeps them.
BeforeRemoval = Callable[[Kind, Sequence[Any]], None]


class Pruning:
    """Removes what is old. Any number of processes may do so at once, and may end at any point."""

    def __init__(self, before_removal: BeforeRemoval | None = None, only: Sequence[Kind] | None = None) -> None:
        self.now = timezone.now()
        self._kinds = list(kinds() if only is None else only)
        self._before_removal = before_removal
        self._after: Place | None = None
        self._has_more = True
        self._doomed: list[Any] = []
        #: Of how many of these somebody was told before their removal.
        self._told = 0
        self._few = FEW
        #: How many were removed, by kind; and of each model, with what hung on them.
        self.removed: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        #: The kind at hand, and the time up to which it was looked at.
        self.kind = ""
        self.reached: datetime | None = None

    def step(self, seconds: float) -> bool:
        """Remove for so many seconds, or a transaction longer. Returns whether anything may be left."""
        until = time.monotonic() + seconds
        while self._kinds:
            kind = self._kinds[0]
            with alone(f"removing old {kind.name}") as fault:
                self._advance(kind)
            if fault.reason:  # this kind is tried again in the next pass
                self._next_kind()
            if time.monotonic() >= until:
                break
        return bool(self._kinds)

    def _advance(self, kind: Kind) -> None:
        limit = kind.limit(self.now)
        if limit is None or not (self._doomed or self._has_more):
            self._next_kind()
        elif self._doomed:
            self._remove(kind, self._doomed[: self._few])
        else:
            page = kind.page(limit, self._after, PAGE)
            self._doomed = kind.removable(page.old)
            self._after, self._has_more = page.end, page.end is not None
            self.kind, self.reached = kind.name, page.at

    def _remove(self, kind: Kind, keys: list[Any]) -> None:
        # Once for each: of what is removed in several transactions, the first has already taken something
        if self._before_removal and (fresh := keys[self._told :]):
            self._before_removal(kind, fresh)
        self._told = max(self._told, len(keys))
        began = time.monotonic()
        counts, is_all = kind.remove(keys)
        took = time.monotonic() - began
        self.rows += counts
        if is_all:
            del self._doomed[: len(keys)]
            self._told -= len(keys)
            self.removed[kind.name] += counts[kind.model._meta.object_name or ""]
        # At most twice as many: the next ones may have more hanging on them
        self._few = max(FEWEST, min(MOST, 2 * self._few, int(self._few * TRANSACTION_SECONDS / max(took, 0.001))))

    def _next_kind(self) -> None:
        self._kinds.pop(0)
        self._after, self._has_more, self._doomed, self._told, self._few = None, True, [], 0, FEW


def to_be_removed() -> Counter[str]:
    """Return how many rows of each kind a pass would remove now, without what hangs on them."""
    now, found = timezone.now(), Counter[str]()
    every = kinds()
    runs_before = every[0].limit(now)
    for kind in every:
        after: Place | None = None
        limit = kind.limit(now)
        while limit:
            page = kind.page(limit, after, PAGE)
            found[kind.name] += len(kind.removable(page.old, with_runs_before=runs_before))
            after = page.end
            if after is None:
                break
    return found


def told(removed: Counter[str]) -> str:
    """Return in a line how many of each kind were removed; empty if none was."""
    return ", ".join(f"{number:,} {kind}" for kind, number in removed.items() if number)
