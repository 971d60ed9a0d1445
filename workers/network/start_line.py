"""The start line: the parties of a run agree on the moment at which all make their links.

brpc listens and connects in one call. A party that calls a millisecond before its peer listens is refused, and brpc
then leaves the peer alone for a tenth of a second, a fourth of a short run. So the first of the parties compares the
others' clocks with its own, over the connections that they greeted it by, and tells each of them the same moment, a few
milliseconds ahead, as that one's clock will show it. Nothing but time depends on it: who is told none starts at once.
"""

from __future__ import annotations

import asyncio
import math
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterable
from contextlib import suppress

#: Exchanges with each party; the quickest one tells its clock best.
EXCHANGES = 4
#: Seconds between the moment at which the parties are told, and the start: each has something to do before it.
AHEAD = 0.008
#: How long a party waits to be told, and how far ahead a start may be, in seconds.
PATIENCE = 0.5
ASK = b"?\n"


class StartLine:
    """One party's place at the line, for one meeting. The first party by name leads."""

    def __init__(self, me: str, peers: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._leader = min(me, *peers)
        self.leads = self._leader == me
        self._peers, self._clock = set(peers), clock
        self._lines: dict[str, tuple[StreamReader, StreamWriter]] = {}

    def waits_for(self, peer: str) -> bool:
        """Return whether this peer tells when to start."""
        return peer == self._leader

    def add(self, peer: str, reader: StreamReader, writer: StreamWriter) -> None:
        """Take the connection between this party and a peer, one of which leads."""
        self.close(peer)
        self._lines[peer] = reader, writer

    def has(self, writer: StreamWriter) -> bool:
        """Return whether a connection is kept for the line, and closed with it."""
        return any(writer is mine for _, mine in self._lines.values())

    def close(self, peer: str | None = None) -> None:
        """Close the connection with a peer, or with all."""
        for name in [peer] if peer else list(self._lines):
            if name in self._lines:
                self._lines.pop(name)[1].close()

    async def start(self) -> float | None:
        """Return when to start, by this host's monotonic clock; None for at once. Called when all have met."""
        with suppress(OSError, ValueError, asyncio.TimeoutError):
            return await asyncio.wait_for(self._lead() if self.leads else self._follow(), PATIENCE)
        return None

    async def _lead(self) -> float | None:
        if self._lines.keys() != self._peers:
            return None
        clocks = await asyncio.gather(*(self._compare(*line) for line in self._lines.values()))
        start = self._clock() + AHEAD + max(trip for _, trip in clocks)
        for (_, writer), (ahead, _) in zip(self._lines.values(), clocks, strict=True):
            writer.write(f"{start + ahead!r}\n".encode())
            await writer.drain()
        return start

    async def _compare(self, reader: StreamReader, writer: StreamWriter) -> tuple[float, float]:
        """Return by how much a peer's clock is ahead, and how long the quickest exchange took, both in seconds."""
        found = []
        for _ in range(EXCHANGES):
            asked = self._clock()
            writer.write(ASK)
            theirs = float(await reader.readline())
            heard = self._clock()
            found.append((heard - asked, theirs - (asked + heard) / 2))
        trip, ahead = min(found)
        return ahead, trip

    async def _follow(self) -> float | None:
        if self._leader not in self._lines:
            return None
        reader, writer = self._lines[self._leader]
        while (said := await reader.readline()) == ASK:
            writer.write(f"{self._clock()!r}\n".encode())
        start = float(said)
        # A peer may say anything
        return start if math.isfinite(start) and abs(start - self._clock()) < PATIENCE else None
