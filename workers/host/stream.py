"""Writes to this party's stream in Redis, which the control plane reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from redis import Redis

from workers.contract.connection import when_it_takes_writes
from workers.contract.errors import ConfigError
from workers.contract.events import EVENT, PIECE, PIECE_SIZE, REPORT_LIMIT, SIGNATURE, TEXT, signed_part
from workers.contract.keys import stream_of
from workers.contract.logs import LOG
from workers.contract.signing import Signer
from workers.contract.wording import Text

#: Bytes that go to Redis in one round trip: a slow line must manage them within the connection's time-out.
ROUND_TRIP = 2**20
#: Entries of a stream that nobody has read yet, beyond which no lines of logs are added.
MOST_UNREAD = 500
#: How long the rest of a large event waits for a full Redis, in seconds.
ROOM_SECONDS = 5.0


class Stream:
    """A party's stream, with the key that signs what the party writes there."""

    def __init__(self, connection: Redis, party: str, signer: Signer) -> None:
        self.connection, self.party, self._signer = connection, party, signer

    def append(self, events: Iterable[str]) -> None:
        """Append events, given as JSON, each as an entry or, if it is large, as several. Raises RedisError or
        OSError."""
        patience = 0.0
        for entries in self._in_round_trips(events):
            when_it_takes_writes(partial(self._append, entries), patience=patience)
            # A full Redis has room again once what was sent has been read, so a large event continues where it stopped
            patience = ROOM_SECONDS

    def report(self, kind: str, content: Mapping[str, Any]) -> None:
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
        self._append([self._signed(kind, text)])

    def log(self, content: Mapping[str, Any]) -> bool:
        """Send lines of a run's log, unless much of what this party sent has not been read yet: they are worth less
        than the room for events. Returns whether they were sent. Raises RedisError or OSError."""
        if self.connection.xlen(stream_of(self.party)) > MOST_UNREAD:
            return False
        self._append([self._signed(LOG, json.dumps(content, separators=(",", ":")))])
        return True

    def _append(self, entries: list[dict[str, str]]) -> None:
        with self.connection.pipeline(transaction=True) as pipeline:
            for entry in entries:
                pipeline.xadd(stream_of(self.party), entry)  # type: ignore[arg-type]
            pipeline.execute()

    def _in_round_trips(self, events: Iterable[str]) -> Iterator[list[dict[str, str]]]:
        entries: list[dict[str, str]] = []
        size = 0
        for event in events:
            for entry in self._entries(event):
                entries.append(entry)
                size += sum(map(len, entry.values()))
                if size >= ROUND_TRIP:
                    yield entries
                    entries, size = [], 0
        if entries:
            yield entries

    def _entries(self, line: str) -> Iterator[dict[str, str]]:
        """Yield the entries that hold an event; its JSON has ASCII alone, so that it can be cut anywhere."""
        if len(line) <= PIECE_SIZE:
            yield self._signed(EVENT, line)
            return
        event = json.loads(line)
        of = -(-len(line) // PIECE_SIZE)
        header = {name: event[name] for name in ("task_request_id", "party", "attempt", "sequence")} | {"of": of}
        for number in range(of):
            text = line[number * PIECE_SIZE : (number + 1) * PIECE_SIZE]
            yield self._signed(PIECE, json.dumps(header | {"number": number + 1}, separators=(",", ":")), text)

    def _signed(self, kind: str, said: str, text: str | None = None) -> dict[str, str]:
        parts = [said] if text is None else [said, text]
        signature = self._signer.sign(*signed_part(self.party, kind, *(part.encode() for part in parts)))
        return {kind: said, SIGNATURE: signature} | ({} if text is None else {TEXT: text})
