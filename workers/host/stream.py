"""Writes to this party's stream in Redis, which the control plane reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from redis import Redis

from workers.contract.connection import when_it_takes_writes
from workers.contract.errors import ConfigError
from workers.contract.events import PIECE_SIZE, REPORT_LIMIT
from workers.contract.keys import stream_of
from workers.contract.wording import Text

#: Bytes that go to Redis in one round trip: a slow line must manage them within the connection's time-out.
ROUND_TRIP = 2**20
#: How long the rest of a large event waits for a full Redis, in seconds.
ROOM_SECONDS = 5.0


def append_to_stream(connection: Redis, party: str, lines: Iterable[str]) -> None:
    """Append events, given as JSON, each as an entry or, if it is large, as several. Raises RedisError or OSError."""
    patience = 0.0
    for entries in _in_round_trips(lines):
        when_it_takes_writes(partial(_append, connection, party, entries), patience=patience)
        # A full Redis has room again once what was sent has been read, so a large event continues where it stopped
        patience = ROOM_SECONDS


def _in_round_trips(lines: Iterable[str]) -> Iterator[list[dict[str, str]]]:
    entries: list[dict[str, str]] = []
    size = 0
    for line in lines:
        for entry in _entries(line):
            entries.append(entry)
            size += sum(map(len, entry.values()))
            if size >= ROUND_TRIP:
                yield entries
                entries, size = [], 0
    if entries:
        yield entries


def _append(connection: Redis, party: str, entries: list[dict[str, str]]) -> None:
    with connection.pipeline(transaction=True) as pipeline:
        for entry in entries:
            pipeline.xadd(stream_of(party), entry)  # type: ignore[arg-type]
        pipeline.execute()


def _entries(line: str) -> Iterator[dict[str, str]]:
    """Yield the entries of the stream that hold an event; its JSON has ASCII alone, so that it can be cut anywhere."""
    if len(line) <= PIECE_SIZE:
        yield {"event": line}
        return
    event = json.loads(line)
    of = -(-len(line) // PIECE_SIZE)
    header = {name: event[name] for name in ("task_request_id", "party", "attempt", "sequence")} | {"of": of}
    for number in range(of):
        text = line[number * PIECE_SIZE : (number + 1) * PIECE_SIZE]
        yield {"piece": json.dumps(header | {"number": number + 1}, separators=(",", ":")), "text": text}


def report(connection: Redis, party: str, kind: str, content: Mapping[str, Any]) -> None:
    """Send the control plane a report that is not an event of a run. It is not kept for later: raises RedisError or
    OSError; ConfigError if the control plane would refuse its size.
    """
    text = json.dumps(content, separators=(",", ":"))
    if len(text) > REPORT_LIMIT:
        raise ConfigError(
            "the {} report has {:,} bytes, and the control plane takes at most {:,}",
            Text(kind),
            len(text),
            REPORT_LIMIT,
        )
    connection.xadd(stream_of(party), {kind: text})
