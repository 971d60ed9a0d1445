"""The logs of the runs that a worker has."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from workers.contract.errors import ConfigError
from workers.contract.run_name import RunName
from workers.host.party import PartyHost
from workers.host.run_logs import RunLogs
from workers.runtime.log_sender import LogSender
from workers.runtime.run_log import RunLog

#: How often old logs are removed, in seconds.
REMOVE_EVERY = 3600.0


class JobLogs:
    """Makes the logs of a worker's runs, by what party.toml says when each of them begins."""

    def __init__(self, host: PartyHost, party_toml: Path, redis_url: str) -> None:
        self._host, self._path = host, party_toml
        self._sender = LogSender(host, redis_url)
        #: What party.toml looked like when it was read last.
        self._seen: tuple[int, int] | None = None
        self._remove_at = 0.0

    def of(self, job: Any) -> RunLog | None:
        """Return the log of a job's run; None if it is none of ours, which its process says."""
        self._remove_old()
        try:
            documents = dict(job.kwargs)
            name = RunName.of(documents.pop("task_request_id"), documents)
        except Exception:  # anything may be in a job
            return None
        return RunLog(self._now(), name, self._sender.wake, documents)

    def close(self) -> None:
        """Send what is left to be sent."""
        self._sender.close()

    def _remove_old(self) -> None:
        if time.monotonic() >= self._remove_at:
            self._remove_at = time.monotonic() + REMOVE_EVERY
            RunLogs(self._host.logs_dir).remove_old(self._host.logs.keep_days)

    def _now(self) -> PartyHost:
        try:
            found = os.stat(self._path)
            if (seen := (found.st_mtime_ns, found.st_size)) != self._seen:
                self._host, self._seen = self._host.reload(), seen
        except (OSError, ConfigError):  # the run itself says so, and fails
            pass
        return self._host
