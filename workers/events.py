"""Status events from a party to the control plane (1-contract.md section 3).

Each party appends to a stream of its own, ``events:<party>``. Every event is on the party's disk first, in
a journal per job, until the control plane has applied it: what cannot be delivered, and what Redis loses,
is delivered again by the worker process. The reader applies each event once, whatever the order, by its
``sequence``.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from workers.connection import trouble, when_it_takes_writes
from workers.errors import AlgorithmError, ConfigError

log = logging.getLogger(__name__)

RUNNING, SUCCESS, FAILURE = "RUNNING", "SUCCESS", "FAILURE"

MIB = 2**20
#: The largest event, in bytes of JSON. The control plane refuses a larger one, so a party does not send it.
EVENT_LIMIT = 16 * MIB
#: A larger event goes in pieces of this many bytes, each an entry of the stream: the reader takes many entries at
#: once, and neither it nor Redis should have to hold many large ones.
PIECE_SIZE = 48 * 1024
MOST_PIECES = -(-EVENT_LIMIT // PIECE_SIZE)
#: The largest report that is no event, in bytes of JSON.
REPORT_LIMIT = MIB
#: What goes to Redis in one round trip, in bytes: a slow line still takes it within the connection's time-out.
ROUND_TRIP = MIB
#: How long the rest of a large event waits for a full Redis, in seconds.
ROOM_SECONDS = 5.0
#: How much the control plane takes of an error's text, in characters, and of a list of problems, in entries.
ERROR_LENGTH, MOST_PROBLEMS = 4000, 100
WORKER_LENGTH = 200
#: The largest result, in bytes of JSON, and any other field of an event: the event around them has room too.
RESULT_LIMIT, FIELD_LIMIT = EVENT_LIMIT - 4 * MIB, MIB // 4


def stream_of(party: str) -> str:
    """The Redis key of a party's event stream."""
    return f"events:{party}"


class Publisher:
    """Publishes the events of one attempt at one party, in order.

    Never raises for a delivery that failed. Raises AlgorithmError for a success whose result is too large to report.
    """

    #: At most two progress events a second; the newest wins.
    PROGRESS_INTERVAL = 0.5

    def __init__(
        self,
        connection: Redis,
        *,
        execution: str,
        attempt: int,
        party: str,
        worker: str,
        task_type: str,
        journal_dir: Path,
        first_sequence: int = 1,
    ) -> None:
        self._connection = connection
        self._journal = Journal(journal_dir)
        self._file = f"{execution}-{attempt}.jsonl"
        self._party = party
        self._envelope: dict[str, Any] = {
            "task_request_id": execution,
            "worker_container": worker[:WORKER_LENGTH],
            "task_name": f"secretflow.execute_{task_type}_task",
            "party": party,
            "attempt": attempt,
        }
        self._sequence = first_sequence - 1
        self._started = time.monotonic()
        self._progress_at = 0.0
        self._held: dict[str, Any] | None = None
        # This is the worker process, after the job's own, and something of this run is late: go behind it
        self._late = self._journal.is_late(self._file)
        self.stage = ""

    def publish(self, status: str, stage: str, **data: Any) -> None:
        """Send one event at once, with the progress that was held back, in one round trip."""
        if status == SUCCESS and "result" in data:
            check_size(data["result"])
        self.stage = stage
        held = self._take_held()
        self._send([*held, self._event(status, stage, data)])

    def progress(self, fraction: float) -> None:
        """Report the computation's progress, 0 to 1."""
        self._held = {"computation_progress": round(min(max(fraction, 0.0), 1.0), 4)}
        if time.monotonic() - self._progress_at >= self.PROGRESS_INTERVAL:
            self._send(self._take_held())

    def _take_held(self) -> list[dict[str, Any]]:
        if self._held is None:
            return []
        data, self._held = self._held, None
        self._progress_at = time.monotonic()
        return [self._event(RUNNING, self.stage, data)]

    def _event(self, status: str, stage: str, data: dict[str, Any]) -> dict[str, Any]:
        self._sequence += 1
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {"stage": stage} | _bounded(data) | {"execution_time": round(time.monotonic() - self._started, 3)}
        return self._envelope | {
            "status": status,
            "timestamp": now,
            "data": {k: v for k, v in said.items() if v not in (None, "", [], {})},
            "sequence": self._sequence,
        }

    def _send(self, events: list[dict[str, Any]]) -> None:
        if not events:
            return
        lines = [json.dumps(event, separators=(",", ":")) for event in events]
        place: int | None = None
        try:
            place = self._journal.append(self._file, lines)
        except OSError as error:
            log.warning("an event could not be written to disk: %s", error.strerror)
        # Once something of this run is late, all that follows is too: it stays in order
        if not self._late:
            try:
                append_to_stream(self._connection, self._party, lines)
                return
            except (RedisError, OSError) as error:
                log.warning("an event waits on disk: %s", trouble(error))
                self._late = True
        if place is None:
            log.warning("an event is lost: neither Redis nor the disk took it")
            return
        try:
            self._journal.mark_late(self._file, place)
        except OSError as error:
            log.warning("an event may be lost: %s", error.strerror)


def check_size(result: Mapping[str, Any]) -> None:
    """Raise AlgorithmError if a result is too large to be reported."""
    size = len(json.dumps(result, separators=(",", ":")))
    if size > RESULT_LIMIT:
        raise AlgorithmError(
            f"the result has {size:,} bytes, and a party can report at most {RESULT_LIMIT:,}; "
            "run the task over fewer columns, in several runs"
        )


def _bounded(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data with what the control plane would cut cut here, where the log has all of it."""
    found = dict(data)
    if isinstance(error := found.get("error"), str):
        found["error"] = shortened(error)
    if isinstance(problems := found.get("problems"), list):
        found["problems"] = problems[:MOST_PROBLEMS]
    for name, value in found.items():
        # No field but the result has a reason to be large; what has none must not cost a run its verdict
        if name != "result" and (size := len(json.dumps(value, default=str))) > FIELD_LIMIT:
            found[name] = f"left out: {size:,} bytes"
    return found


def shortened(text: str, length: int = ERROR_LENGTH) -> str:
    """Return the text, or as much of it as the control plane takes, with a word about the rest."""
    if len(text) <= length:
        return text
    rest = f" ... ({len(text):,} characters; the rest is left out)"
    return text[: length - len(rest)] + rest


def append_to_stream(connection: Redis, party: str, lines: Iterable[str]) -> None:
    """Append events, given as JSON, each as an entry or, if it is large, as several. Raises RedisError or OSError."""
    patience = 0.0
    for entries in _in_round_trips(lines):
        when_it_takes_writes(partial(_append, connection, party, entries), patience=patience)
        # A Redis that is full has room again when what was sent has been read: a large event need not begin anew
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
    """The entries of the stream that hold an event; its JSON has ASCII alone, so that it can be cut anywhere."""
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
    """Tell the control plane something that is no event of a run.

    It is not kept: raises RedisError or OSError; ConfigError where the control plane would refuse it for its size.
    """
    text = json.dumps(content, separators=(",", ":"))
    if len(text) > REPORT_LIMIT:
        raise ConfigError(
            f"the {kind} report has {len(text):,} bytes, and the control plane takes at most {REPORT_LIMIT:,}"
        )
    connection.xadd(stream_of(party), {kind: text})


class Journal:
    """A party's events on disk, one file a job; beside it, while it holds what Redis did not take, a note of where.

    Written by the jobs' processes, read by the party's worker processes. An event may be delivered twice,
    after a crash between sending and noting it, and after Redis lost data; the reader drops the repetition.
    """

    #: A file that nothing was added to for this long may be removed, in seconds: longer than a delivery that is
    #: still under way can take.
    SETTLED_AFTER = 60.0

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / ".lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def append(self, name: str, lines: list[str]) -> int:
        """Returns where in the file, in bytes, these lines begin. Raises OSError."""
        with self._locked(), (self.directory / name).open("ab") as handle:
            place = handle.seek(0, os.SEEK_END)
            handle.write("".join(line + "\n" for line in lines).encode())
            return place

    def mark_late(self, name: str, place: int) -> None:
        """Note that Redis has nothing of this file from there on. Raises OSError."""
        with self._locked():
            note = self._note(name)
            if not note.exists():
                note.write_text(str(place))

    def is_late(self, name: str) -> bool:
        """Whether something of this file is still to be delivered."""
        return self._note(name).exists()

    def deliver(self, connection: Redis, party: str, *, everything: bool = False) -> int:
        """Send what is late, or every event there is; returns their number. Raises RedisError or OSError."""
        sent = 0
        for path in sorted(self.directory.glob("*.jsonl"), key=lambda p: (p.stat().st_mtime, p.name)):
            note = self._note(path.name)
            with self._locked():
                if not path.exists() or not (everything or note.exists()):
                    continue
                place = 0 if everything else int(note.read_text() or 0)
                content = path.read_bytes()
            try:
                for end, lines in _batches(content, place):
                    append_to_stream(connection, party, lines)
                    place, sent = end, sent + len(lines)
            except (RedisError, OSError):
                with self._locked():
                    note.write_text(str(place))  # it goes on from there: what was sent need not go again
                raise
            with self._locked():
                if path.exists() and path.stat().st_size > len(content):
                    note.write_text(str(len(content)))  # more came meanwhile
                else:
                    note.unlink(missing_ok=True)
        return sent

    def forget_applied(self) -> None:
        """Remove what has been delivered. To be called when the stream is empty: the reader removes what it applied."""
        now = time.time()
        for path in self.directory.glob("*.jsonl"):
            with self._locked(), suppress(FileNotFoundError):
                if not self._note(path.name).exists() and now - path.stat().st_mtime > self.SETTLED_AFTER:
                    path.unlink()

    def _note(self, name: str) -> Path:
        return (self.directory / name).with_suffix(".late")


def _batches(content: bytes, place: int) -> Iterator[tuple[int, list[str]]]:
    """The lines of a file from a place on, some at a time, each time with the place where they end."""
    lines: list[str] = []
    size = 0
    for raw in content[place:].splitlines(keepends=True):
        place, size = place + len(raw), size + len(raw)
        line = raw.decode(errors="replace").rstrip("\n")
        if line.endswith("}"):  # a process that is killed while it writes leaves half a line
            lines.append(line)
        if size >= ROUND_TRIP and lines:
            yield place, lines
            lines, size = [], 0
    if lines:
        yield place, lines
