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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

RUNNING, SUCCESS, FAILURE = "RUNNING", "SUCCESS", "FAILURE"


def stream_of(party: str) -> str:
    """The Redis key of a party's event stream."""
    return f"events:{party}"


class Publisher:
    """Publishes the events of one attempt at one party, in order. Never raises for a delivery that failed."""

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
            "worker_container": worker,
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
        said = {"stage": stage} | data | {"execution_time": round(time.monotonic() - self._started, 3)}
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
                log.warning("Redis did not take an event (%s); it waits on disk", type(error).__name__)
                self._late = True
        if place is None:
            log.warning("an event is lost: neither Redis nor the disk took it")
            return
        try:
            self._journal.mark_late(self._file, place)
        except OSError as error:
            log.warning("an event may be lost: %s", error.strerror)


def append_to_stream(connection: Redis, party: str, lines: list[str]) -> None:
    """Append events, given as JSON, in one round trip. Raises RedisError or OSError."""
    with connection.pipeline(transaction=True) as pipeline:
        for line in lines:
            pipeline.xadd(stream_of(party), {"event": line})
        pipeline.execute()


def report(connection: Redis, party: str, kind: str, content: Mapping[str, Any]) -> None:
    """Tell the control plane something that is no event of a run. It is not kept: raises RedisError or OSError."""
    connection.xadd(stream_of(party), {kind: json.dumps(content, separators=(",", ":"))})


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
            # A process that is killed while it writes leaves half a line
            lines = [line for line in content[place:].decode(errors="replace").splitlines() if line.endswith("}")]
            if lines:
                append_to_stream(connection, party, lines)
            sent += len(lines)
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
