"""Status events from a party to the control plane.

Each party appends to a stream of its own, ``events:<party>``. Every event is on the party's disk first, in
a journal per job, until the control plane has applied it: what cannot be delivered, and what Redis loses,
is delivered again by the worker process. The reader applies each event once, whatever the order, by its
``sequence``.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from workers.contract.connection import trouble
from workers.contract.errors import AlgorithmError
from workers.contract.events import FIELD_LIMIT, MOST_PROBLEMS, RESULT_LIMIT, RUNNING, SUCCESS, WORKER_LENGTH, shortened
from workers.contract.run_name import RunName
from workers.host.stream import Stream
from workers.runtime.journal import Journal

log = logging.getLogger(__name__)


class Publisher:
    """Publishes the events of one attempt at one party, in order.

    Never raises for a delivery that failed. Raises AlgorithmError for a success whose result is too large to report.
    """

    #: At most two progress events a second; the newest wins.
    PROGRESS_INTERVAL = 0.5

    def __init__(
        self,
        stream: Stream,
        *,
        run: RunName,
        worker: str,
        task_type: str,
        journal_dir: Path,
        first_sequence: int = 1,
        tell: Callable[[Any], Any] = lambda data: data,
    ) -> None:
        """``tell`` returns what of an event's data may leave this host."""
        self._stream, self._tell = stream, tell
        self._journal = Journal(journal_dir)
        self._file = f"{run}.jsonl"
        self._envelope: dict[str, Any] = {
            "task_request_id": run.execution,
            "worker_container": worker[:WORKER_LENGTH],
            "task_name": f"secretflow.execute_{task_type}_task",
            "party": stream.party,
            "attempt": run.attempt,
        }
        self._sequence = first_sequence - 1
        self._started = time.monotonic()
        self._progress_at = 0.0
        self._held: dict[str, Any] | None = None
        # This is the worker process, after the job's own, and something of this run is late: go behind it
        self._late = self._journal.is_late(self._file)
        self._lock = threading.Lock()
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
        said = (
            {"stage": stage}
            | _bounded(self._tell(data))
            | {"execution_time": round(time.monotonic() - self._started, 3)}
        )
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
        # Not in the caller's thread: an error of Redis can refer to its frames, as redis-py's pipelines keep theirs in
        # a circle, and through them to those of the computation, which go on living with all of SecretFlow's objects
        # in them. What one party frees later than its peers makes all wait for ever (Cluster.connect)
        thread = threading.Thread(target=self._deliver, args=(lines,), name="events")
        try:
            thread.start()
        except RuntimeError:  # this host gives no more threads
            self._deliver(lines)
        else:
            thread.join()

    def _deliver(self, lines: list[str]) -> None:
        with self._lock:  # RQ's alarm may have ended the wait for the one before
            place: int | None = None
            try:
                place = self._journal.append(self._file, lines)
            except OSError as error:
                log.warning("an event could not be written to disk: %s", error.strerror)
            # Once something of this run is late, all that follows is too: it stays in order
            if not self._late:
                try:
                    self._stream.append(lines)
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
