"""Streams of server-sent events: what is told to one service that watches."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.db.models import QuerySet

from controlplane.access import Access
from controlplane.models import PartySet
from executions.models import ExecutionEvent, StateChange
from executions.watching.changes import Change, Position, changes, events
from executions.watching.hub import hub

#: Streams that one process keeps open.
MOST_STREAMS = 1000
#: Changes that wait for a service that reads slowly; beyond that its stream ends, and it goes on from where it was.
MOST_WAITING = 2000
#: Seconds between two signs of life, between two looks whether the sender may still see it, and of a whole stream.
SIGN_OF_LIFE, LOOKED_AT_EVERY, LONGEST = 15.0, 30.0, 3600.0
#: Seconds for which a look holds for the sender's other streams.
LOOK_HOLDS = 10.0
#: Looks what a sender may see; None if that is nothing any more.
Look = Callable[[], Access | None]
#: Changes that one read of what has happened before takes; so many in all are told to who comes back.
PAGE, MOST_BEFORE = 500, 20_000
#: Keys below a position that are read again: rows appear in the order of commits, and not of their keys.
OVERLAP = 50


_looks: dict[str, tuple[float, Access | None]] = {}


def shared(sender: str) -> Callable[[Look], Look]:
    """Return a decorator: of all streams of one sender only one looks in so many seconds what the sender may see."""

    def decorated(look: Look) -> Look:
        def looked() -> Access | None:
            at, found = _looks.get(sender, (-LOOK_HOLDS, None))
            if time.monotonic() - at >= LOOK_HOLDS:
                if len(_looks) > MOST_STREAMS:
                    _looks.clear()
                found = look()
                _looks[sender] = (time.monotonic(), found)
            return found

        return looked

    return decorated


@dataclass(slots=True)
class Wanted:
    """What somebody wants to be told, and may be."""

    access: Look
    execution: str = ""
    party: str = ""
    labels: list[tuple[str, str | None]] = field(default_factory=list)
    kinds: frozenset[str] = frozenset()
    #: Those that the sender sees now; None for all.
    parties: frozenset[str] | None = frozenset()

    def look(self) -> bool:
        """Look what the sender may see now. Returns whether that is anything."""
        access = self.access()
        if access is not None:
            self.parties = access.parties
        return access is not None

    def takes(self, change: Change) -> bool:
        """Return whether this is to be told."""
        return (
            (not self.execution or change.execution == self.execution)
            and (not self.kinds or change.kind in self.kinds)
            and (not self.party or self.party in change.parties)
            and all(key in change.labels and value in (None, change.labels[key]) for key, value in self.labels)
            and (self.parties is None or not self.parties.isdisjoint(change.parties))
        )


async def stream(wanted: Wanted, after: Position | None) -> AsyncIterator[bytes]:
    """Yield what happens from now on, or from a position on, as server-sent events; ends after an hour.

    Each has as its id the position behind it. Of executions that are not one alone, some may be told twice after a
    position: they have the same id in ``data``.
    """
    loop = asyncio.get_running_loop()
    waiting = Waiting()

    def tell(found: list[Change]) -> None:
        if mine := [change for change in found if wanted.takes(change)]:
            loop.call_soon_threadsafe(waiting.put, mine)

    number = await _apart(lambda: hub.join(tell))
    try:
        began = time.monotonic()
        # Who begin to watch at the same moment, as after a restart, need not all look at the same moment
        looked = began - random.uniform(0, LOOKED_AT_EVERY)
        position = after or await _apart(Position.newest)
        # With where it begins: who loses it before anything has happened goes on from there
        yield f"id: {position}\nretry: 1000\n\n".encode()
        told: set[tuple[str, int]] = set()
        if after is not None:
            async for change in _before(wanted, after):
                if change is None:
                    yield _message(position, "gap", json.dumps({"detail": "More has happened than is told again."}))
                    position = await _apart(Position.newest)
                    break
                told.add((change.kind, change.pk))
                position = position.after(change)
                yield _event(change, position)
        while time.monotonic() - began < LONGEST:
            # A timer for each stream, and no time limit of each wait: that would cost more than what is sent
            timer = loop.call_later(SIGN_OF_LIFE, waiting.wake)
            found = await waiting.get()
            timer.cancel()
            if found is None:
                return
            if time.monotonic() - looked > LOOKED_AT_EVERY:
                looked = time.monotonic()
                if not await _apart(wanted.look):
                    return
            told_now = b""
            for change in found:
                # Once more: it was put here for what the sender saw then, perhaps while that was looked at
                if (change.kind, change.pk) not in told and wanted.takes(change):
                    position = position.after(change)
                    told_now += _event(change, position)
            yield told_now or b": still here\n\n"
    finally:
        hub.leave(number)


class Waiting:
    """What is to be sent in one stream."""

    def __init__(self) -> None:
        self._found: list[Change] = []
        self._is_over = False
        self._event = asyncio.Event()

    def put(self, found: list[Change]) -> None:
        """Add what has happened. If it becomes too much, the stream ends."""
        self._is_over = self._is_over or len(self._found) + len(found) > MOST_WAITING
        self._found += [] if self._is_over else found
        self._event.set()

    def wake(self) -> None:
        """Have ``get`` return, with nothing if there is nothing."""
        self._event.set()

    async def get(self) -> list[Change] | None:
        """Return all that waits; None at the end."""
        await self._event.wait()
        self._event.clear()
        found, self._found = self._found, []
        return found or (None if self._is_over else [])


async def _before(wanted: Wanted, after: Position) -> AsyncIterator[Change | None]:
    """Yield what happened after a position until now, by its time; at last None, if it is more than the limit."""
    overlap = 0 if wanted.execution else OVERLAP
    kinds = [
        _of_kind(wanted, changes, StateChange, after.change - overlap),
        _of_kind(wanted, events, ExecutionEvent, after.event - overlap),
    ]
    heads = [await anext(kind, None) for kind in kinds]
    for _ in range(MOST_BEFORE):
        first = min((head for head in heads if head is not None), key=lambda head: head.at, default=None)
        if first is None:
            return
        yield first
        number = heads.index(first)
        heads[number] = await anext(kinds[number], None)
    if any(heads):
        yield None


async def _of_kind(wanted: Wanted, read: Any, model: Any, low: int) -> AsyncIterator[Change]:
    """Yield what is wanted of one kind, in the order of its rows."""
    while True:
        page = await _apart(lambda: list(read(_rows(model, wanted, low), PAGE)))  # noqa: B023  called at once
        for change in page:
            if wanted.takes(change):
                yield change
        if len(page) < PAGE:
            return
        low = page[-1].pk


def _rows(model: Any, wanted: Wanted, low: int) -> QuerySet[Any]:
    rows: QuerySet[Any] = model.objects.filter(pk__gt=low)
    if wanted.execution:
        return rows.filter(execution=wanted.execution)
    return rows if wanted.parties is None else rows.filter(execution__party_set__in=PartySet.keys(wanted.parties))


async def _apart(act: Callable[[], Any]) -> Any:
    """Call something that asks the database in a thread, which keeps no connection."""

    def called() -> Any:
        try:
            return act()
        finally:
            if not connection.in_atomic_block:
                connection.close()

    return await sync_to_async(called, thread_sensitive=False)()


def _event(change: Change, position: Position) -> bytes:
    return _message(position, change.kind, change.text)


def _message(position: Position, kind: str, text: str) -> bytes:
    return f"id: {position}\nevent: {kind}\ndata: {text}\n\n".encode()
