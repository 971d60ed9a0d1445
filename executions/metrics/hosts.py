"""The figures that Redis has: the parties' streams, their workers, and what these tell of their hosts.

A party can write to its own keys, so whatever is there may be anything. It must not slow the scrape, nor be taken for
the figures of another party.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from executions.coordinator.capacity import forgiving
from workers.contract.keys import stream_of
from workers.contract.resources import CPUS, DISK_FREE, DISK_TOTAL, LOAD, MEMORY_FREE, MEMORY_TOTAL

#: Workers of a party that are looked at.
MOST_WORKERS = 100
BUSY, READY, STARTING = "busy", "ready", "starting"
_FIELDS = ("state", "process", MEMORY_FREE, MEMORY_TOTAL, DISK_FREE, DISK_TOTAL, LOAD, CPUS)

#: Returns how many entries a stream has, and the id of the oldest: without its content, which may be large.
OLDEST = """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
return {redis.call('XLEN', KEYS[1]), first[1] and first[1][1] or ''}
"""


@dataclass(slots=True)
class Host:
    """What Redis has of one party."""

    #: Entries of its stream that are not applied yet, and the age of the oldest in seconds.
    entries: int = 0
    lag: float = 0.0
    #: Number of live workers by state.
    workers: Counter[str] = field(default_factory=Counter)
    #: Lowest of its workers' hosts, in bytes and as a share; None if no worker tells.
    memory_free: float | None = None
    memory_ratio: float | None = None
    disk_free: float | None = None
    disk_ratio: float | None = None
    #: Highest of its workers' hosts.
    load: float | None = None

    def add_worker(self, told: list[Any]) -> None:
        state, process, *figures = told
        self.workers[worker_state(state, process)] += 1
        memory_free, memory_total, disk_free, disk_total, load, cpus = map(number, figures)
        self.memory_free, self.disk_free = least(self.memory_free, memory_free), least(self.disk_free, disk_free)
        self.memory_ratio = least(self.memory_ratio, share(memory_free, memory_total))
        self.disk_ratio = least(self.disk_ratio, share(disk_free, disk_total))
        if load is not None and cpus:
            self.load = max(self.load or 0.0, load / cpus)


def look(connection: Redis, parties: Iterable[str]) -> dict[str, Host]:
    """Return what Redis has of each of these parties. Takes two round trips. Raises RedisError."""
    found = {party: Host() for party in parties}
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.time()
        for party in found:
            pipeline.eval(OLDEST, 1, stream_of(party))
            pipeline.srandmember(f"rq:workers:{party}", MOST_WORKERS)
        (seconds, micros), *answers = forgiving(pipeline)
    keys: list[tuple[Host, bytes]] = []
    for host, stream, workers in zip(found.values(), answers[::2], answers[1::2], strict=True):
        host.entries, oldest = stream or (0, b"")
        # By the clock that the entries' numbers are of
        host.lag = age_of(oldest, seconds + micros / 1e6)
        keys += [(host, key) for key in sorted(workers or ())]
    told = told_by(connection, [key for _, key in keys], _FIELDS)
    for (host, _), fields in zip(keys, told, strict=True):
        if fields:
            host.add_worker(fields)
    return found


def told_by(connection: Redis, keys: Sequence[bytes], fields: Iterable[str]) -> list[list[Any] | None]:
    """Return these fields of each worker's key; None of one that does not live. Takes one round trip. Raises
    RedisError."""
    with connection.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.pttl(key)
            pipeline.hmget(key, *fields)
        told = forgiving(pipeline)
    # What does not expire is of no worker that lives
    return [values if lives > 0 and values else None for lives, values in zip(told[::2], told[1::2], strict=True)]


def worker_state(state: bytes | None, process: bytes | None) -> str:
    """Return the state of a live worker, by what its key says of it and of its next process."""
    return BUSY if state == b"busy" else STARTING if process == b"starting" else READY


def age_of(entry: bytes, now: float) -> float:
    """Return the age in seconds of an entry of a stream; 0 for none, and for one that a party dated ahead."""
    milliseconds = entry.split(b"-")[0]
    return max(0.0, now - int(milliseconds) / 1e3) if milliseconds.isdigit() else 0.0


def number(text: bytes | None) -> float | None:
    """Return the number that a worker wrote; None if it is none, or less than 0."""
    try:
        found = float(text[:32]) if text else None
    except ValueError:
        return None
    return found if found is not None and math.isfinite(found) and found >= 0 else None


def least(known: float | None, new: float | None) -> float | None:
    return new if known is None else known if new is None else min(known, new)


def share(part: float | None, whole: float | None) -> float | None:
    return min(1.0, part / whole) if part is not None and whole else None
