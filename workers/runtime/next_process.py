"""The process that waits for a worker's next job."""

from __future__ import annotations

import logging
import time
from typing import Any

from workers.runtime.compute_process import ComputeProcess
from workers.runtime.run_log import RunLog
from workers.runtime.starter import Starter

log = logging.getLogger(__name__)


class NextProcess:
    """Started by the worker's main thread; others only ask whether it is there."""

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self._process: ComputeProcess | None = None
        #: What the log was told last of why none can be started.
        self._told = ""

    @property
    def is_there(self) -> bool:
        return self._process is not None

    @property
    def state(self) -> str:
        """Return ``ready`` or ``starting``."""
        return "ready" if self.is_ready() else "starting"

    def is_ready(self, wait: float = 0) -> bool:
        """Return whether it could take a job, after up to so many seconds."""
        process = self._process  # the main thread may give it a job meanwhile
        return process is not None and process.is_ready(wait)

    def start(self) -> None:
        """Have one wait, if none does."""
        if self._process and self._process.process.poll() is not None:
            self.close()
        if self._process is None:
            try:
                self._process, self._told = self._starter.start(), ""
            except Exception as error:  # a job that computes has what it needs; this one is for the next
                if (why := f"{type(error).__name__}: {error}") != self._told:
                    log.warning(
                        "Worker %s: no process for the next job could be started: %s", self._starter.worker, why
                    )
                self._told = why

    def take(self, order: dict[str, Any], run_log: RunLog | None = None) -> ComputeProcess:
        """Give it its job, and return it; what it logs is the job's ``run_log``. Raises OSError if no process can be
        started."""
        for _ in range(5):
            self.start()
            taken, self._process = self._process, None
            if taken is None:
                time.sleep(1)  # no memory, no processes left: that passes, or the run is tried again elsewhere
                continue
            try:
                taken.give(order, run_log)
                return taken
            except BrokenPipeError:  # it died while it waited
                taken.close()
        raise OSError("no process for the job can be started")

    def close(self) -> None:
        """End it, if it is there."""
        if self._process:
            self._process.close()
            self._process = None
