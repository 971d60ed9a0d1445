"""Status events from a party to the control plane (1-contract.md section 3).

Each party appends to a stream of its own, ``events:<party>``. What cannot be delivered is kept in a file
per job in the party's spool directory; the worker process delivers it when Redis is back. The reader
applies each event once, whatever the order, by its ``sequence``.
"""

from __future__ import annotations

import fcntl
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

RUNNING, SUCCESS, FAILURE = "RUNNING", "SUCCESS", "FAILURE"
STAGES = (
    "task_started",
    "sf_init",
    "sf_cluster_ready",
    "spu_init",
    "heu_init",
    "devices_ready",
    "task_execution",
    "cleanup",
)


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
        spool_dir: Path,
        first_sequence: int = 1,
    ) -> None:
        self._connection = connection
        self._spool = Spool(spool_dir)
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
        # Something of this run waits on disk already (this is the worker process, after the job's own): go behind it
        self._spooling = (spool_dir / self._file).exists()
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
        # Once something of this run waits on disk, all that follows goes there too: it stays in order
        if not self._spooling:
            try:
                append_to_stream(self._connection, self._party, lines)
                return
            except (RedisError, OSError) as error:
                log.warning("Redis did not take an event (%s); it waits on disk", type(error).__name__)
                self._spooling = True
        try:
            self._spool.append(self._file, lines)
        except OSError as error:
            log.warning("an event could not be kept on disk either and is lost: %s", error.strerror)


def append_to_stream(connection: Redis, party: str, lines: list[str]) -> None:
    """Append events, given as JSON, in one round trip. Raises RedisError or OSError."""
    with connection.pipeline(transaction=True) as pipeline:
        for line in lines:
            pipeline.xadd(stream_of(party), {"event": line})
        pipeline.execute()


class Spool:
    """Events on disk, one file a job, written by the job's process and delivered by the worker process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # The writer appends and the deliverer takes files away under one lock: else a line could go into
        # a file that has just been read
        with (self.directory / ".lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def append(self, name: str, lines: list[str]) -> None:
        """Raises OSError."""
        with self._locked(), (self.directory / name).open("a") as handle:
            handle.write("".join(line + "\n" for line in lines))

    def deliver(self, connection: Redis, party: str) -> int:
        """Send what waits, oldest file first; returns the number of events. Raises RedisError.

        A crash between sending and deleting sends again: the reader drops the repetition.
        """
        sent = 0
        with self._locked():
            for path in sorted(self.directory.glob("*.jsonl"), key=lambda p: p.stat().st_mtime):
                lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
                if lines:
                    append_to_stream(connection, party, lines)
                path.unlink()
                sent += len(lines)
        return sent
