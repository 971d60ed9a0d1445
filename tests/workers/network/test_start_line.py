"""The moment at which all parties of a run make their links."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import pytest

from tests.workers.network.test_rendezvous import Ports
from workers.network import rendezvous
from workers.network.rendezvous import Met
from workers.network.start_line import AHEAD, EXCHANGES, PATIENCE, StartLine

NAMES = ("alice", "bob", "carol")


def meet_all(names: tuple[str, ...], in_line: tuple[str, ...]) -> dict[str, Met]:
    """What the parties, each in a thread, are told by their meeting; ``in_line``: those that line up."""
    ports = Ports()
    places = {name: ports.take() for name in names}
    try:
        with ThreadPoolExecutor(len(names)) as pool:
            meetings = {
                name: pool.submit(
                    rendezvous.meet, name, place, {n: p for n, p in places.items() if n != name},
                    job_name="a job", digest="same", line_up=name in in_line,
                )
                for name, place in places.items()
            }  # fmt: skip
            return {name: meeting.result(20) for name, meeting in meetings.items()}
    finally:
        for held in ports.sockets:
            held.close()


@pytest.mark.parametrize("names", [NAMES[:2], NAMES])
def test_all_are_told_the_same_moment(names: tuple[str, ...]) -> None:
    before = time.monotonic()
    starts = [met.start for met in meet_all(names, names).values()]
    told = [start for start in starts if start]
    assert len(told) == len(names)
    assert max(told) - min(told) < 0.005, "by one clock: as well as they compared it"
    assert before + AHEAD < min(told) < time.monotonic() + PATIENCE


@pytest.mark.parametrize("alone", ["alice", "bob"])
def test_who_lines_up_alone_starts_at_once(alone: str) -> None:
    """As with a peer of another version."""
    before = time.monotonic()
    assert [met.start for met in meet_all(NAMES[:2], (alone,)).values()] == [None, None]
    assert time.monotonic() - before < 10


async def line_of(lines: dict[str, StartLine]) -> list[float | None]:
    """What each is told over real connections."""
    leader = next(name for name, line in lines.items() if line.leads)
    followers = [name for name in lines if name != leader]

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines[leader].add((await reader.readline()).decode().strip(), reader, writer)

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    try:
        for name in followers:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(f"{name}\n".encode())
            lines[name].add(leader, reader, writer)
        while len(lines[leader]._lines) < len(followers):
            await asyncio.sleep(0.01)
        return list(await asyncio.gather(*(line.start() for line in lines.values())))
    finally:
        for line in lines.values():
            line.close()
        server.close()


def test_each_is_told_it_by_its_own_clock() -> None:
    ahead = {"alice": 0.0, "bob": 86_400.0, "carol": -1000.0}

    def clock(name: str) -> Callable[[], float]:
        return lambda: time.monotonic() + ahead[name]

    lines = {name: StartLine(name, set(NAMES) - {name}, clock(name)) for name in NAMES}
    starts = asyncio.run(line_of(lines))
    same = [start - ahead[name] for name, start in zip(NAMES, starts, strict=True) if start is not None]
    assert len(same) == len(NAMES)
    assert max(same) - min(same) < 0.005


class _Liar(StartLine):
    said = b""

    async def _lead(self) -> float | None:
        for _, writer in self._lines.values():
            writer.write(self.said)
            await writer.drain()
        await asyncio.sleep(PATIENCE * 2)
        return None


@pytest.mark.parametrize(
    "said",
    [b"", b"nan\n", b"inf\n", b"1e308\n", b"-1\n", b"soon\n", b"\xff\n", b"?\n" * (EXCHANGES + 90), b"9" * 99_999],
)
def test_a_leader_that_says_something_else_delays_nobody_for_long(said: bytes) -> None:
    alice, bob = _Liar("alice", ["bob"]), StartLine("bob", ["alice"])
    alice.said = said
    before = time.monotonic()
    assert asyncio.run(line_of({"alice": alice, "bob": bob})) == [None, None]
    assert time.monotonic() - before < PATIENCE + 5


def test_one_leads_whoever_asks() -> None:
    for me, *peers in permutations(NAMES):
        line = StartLine(me, peers)
        assert line.leads == (me == "alice")
        assert [peer for peer in peers if line.waits_for(peer)] == ([] if line.leads else ["alice"])
