"""The live session that a worker keeps between two runs, and the parties' agreement to use it.

Before a run whose task asks for it each party's worker tells the others, at a meeting of its own, which session it
has that suits the run: by the job name of the run that used it last. All have the same, and the run goes to the
processes that hold it; or anyone has another, or none, and all end theirs and build a fresh one. Nobody else has to
know: a process that was killed, an idle limit that passed here and not there, a policy that was changed, all come to
"none". Should a party be cut off in the middle of that, the run fails as with any lost peer, and its next attempt
asks for no session.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workers.contract.endpoints import endpoints, split
from workers.contract.run_name import RunName
from workers.host.party import PartyHost
from workers.runtime import task_run
from workers.runtime.compute_process import ComputeProcess
from workers.runtime.meeting import MEETING_SECONDS, meet_peers
from workers.runtime.session import key_of

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Kept:
    process: ComputeProcess
    key: str
    last_run: str
    #: In monotonic seconds.
    until: float
    #: This party's, on which the session listens.
    ports: list[int]


class Keeper:
    """Keeps one session at most. Used by the worker's main thread and by its heartbeat."""

    def __init__(self, host: PartyHost) -> None:
        self.host = host
        self._kept: _Kept | None = None
        self._lock = threading.Lock()
        #: This party's ports in use by the session, or by a run that may leave one.
        self.ports: list[int] = []

    def process_for(self, request: Mapping[str, Any], given_up: Callable[[], bool]) -> ComputeProcess | None:
        """Return the process whose session all parties of the run hold; None if they do not. Ends the kept session.

        ``request`` is what :func:`workers.runtime.task_run.execute_secretflow_task` is called with.
        """
        kept = self._take()
        try:
            if self._agree(kept, dict(request), given_up) and kept:
                self.ports = kept.ports
                return kept.process
        except Exception as error:
            # Whatever it is, the run comes upon it itself, and reports it
            log.info("no agreement on a session: %s", error)
        if kept:
            kept.process.close()
        return None

    def _agree(self, kept: _Kept | None, documents: dict[str, Any], given_up: Callable[[], bool]) -> bool:
        name = RunName.of(documents.pop("task_request_id"), documents)
        if documents["task_config"].get("keep_devices_seconds") is None:
            return False
        host = self.host.reload()
        run = task_run.accept(host, documents)
        listening = [listen or at for _, who, at, listen in endpoints(run.cluster, run.devices) if who == host.name]
        self.ports = [split(place)[1] for place in listening]
        if name.attempt > 1:
            return False
        suits = kept is not None and kept.process.process.poll() is None and kept.key == key_of(host, run)
        offer = kept.last_run if kept and suits else ""
        met = meet_peers(
            host, run, documents, f"{name} session", offer=offer, timeout=MEETING_SECONDS, given_up=given_up
        )
        return offer != "" and {*met.offers.values()} == {offer}

    def keep(self, process: ComputeProcess, said: Mapping[str, Any]) -> None:
        """Keep what a process holds after its run; ``said`` is as ``LiveSession.as_message`` makes it."""
        until = time.monotonic() + said["idle_seconds"]
        with self._lock:
            self._kept = _Kept(process, said["key"], said["last_run"], until, self.ports)

    def run_ended(self) -> None:
        """Ports of a run that left no session are free."""
        with self._lock:
            self.ports = self._kept.ports if self._kept else []

    def look_after(self, *, unwanted: bool) -> bool:
        """End the session if it has waited for too long, its process is gone, or ``unwanted``: its ports are needed.

        Returns whether it was ended.
        """
        kept = self._kept
        if kept and (unwanted or time.monotonic() > kept.until or kept.process.process.poll() is not None):
            return self.end(kept)
        return False

    def end(self, only: _Kept | None = None) -> bool:
        """End the session, if there is one; ``only`` that one, if it is still kept. Returns whether it was ended."""
        if kept := self._take(only):
            kept.process.close()
        return kept is not None

    def _take(self, only: _Kept | None = None) -> _Kept | None:
        with self._lock:
            if only and self._kept is not only:
                return None
            kept, self._kept = self._kept, None
            self.ports = []
        return kept
