"""What starts a worker's compute processes."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO
from uuid import uuid4

from workers.host.party import PartyHost
from workers.runtime.compute_process import FOR_A_JOB, ComputeProcess
from workers.runtime.forked import Forked
from workers.runtime.process_log import ProcessLog
from workers.runtime.zygote import ROOT, Zygote

#: In seconds: a process that is not forked imports SecretFlow first.
START_TIMEOUT = 120.0


class Starter:
    """Starts compute processes for whichever thread of the worker asks.

    A process is killed when the thread ends that started it, or its zygote. So one thread starts them all, and lives
    for as long as the worker.
    """

    def __init__(self, worker: str, redis_url: str, host: PartyHost) -> None:
        self.worker, self.redis_url, self.host = worker, redis_url, host
        self.zygote = Zygote(host.name)
        self._thread = ThreadPoolExecutor(1, "starter")
        # Now, and not when threads are short: what was to be done would be forgotten, and done later
        self._thread.submit(int).result()

    def start(self, purpose: str = FOR_A_JOB) -> ComputeProcess:
        """Return a new process. Raises OSError where none can be started."""
        return self._thread.submit(self._start, purpose).result()

    def close(self) -> None:
        """End the zygote. The processes that were started go on."""
        self._thread.submit(self.zygote.close).result()
        self._thread.shutdown()

    def _start(self, purpose: str) -> ComputeProcess:
        # What SecretFlow leaves under TMPDIR goes with the process: see WorkDirectories.remove_abandoned
        directory = self.host.workdirs.root / f"process-{uuid4()}"
        # What it writes to standard error is kept by run; of checks there are no runs
        log = ProcessLog() if purpose == FOR_A_JOB else None
        stderr = log.write if log else 2
        try:
            with self.host.workdirs.claim(directory) as lock:  # locked until the process ends, however it does
                process = self._fork(lock, directory, stderr) or subprocess.Popen(
                    [sys.executable, "-m", "workers.runtime.compute"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    cwd=ROOT,
                    env=os.environ | {"TMPDIR": str(directory)},
                    start_new_session=True,
                    pass_fds=(lock.fileno(),),
                )
        finally:
            if log:
                log.close_ours()
        started = ComputeProcess(process, purpose, directory, log)
        # Over the pipe, not in the arguments: the URL may carry a password
        hello = {"worker": self.worker, "redis_url": self.redis_url, "host": self.host.as_message()}
        if log:
            hello["mark"] = log.mark
        started.tell(hello | {"party": self.host.name, "purpose": purpose, "parent": os.getpid()})
        return started

    def _fork(self, lock: IO[str], directory: Path, stderr: int) -> Forked | None:
        """Return the process; None where the zygote must not fork. Raises OSError where none can be started."""
        stdin, orders = os.pipe()
        answers, stdout = os.pipe()
        descriptors, environment = [stdin, stdout, stderr, lock.fileno()], {"TMPDIR": str(directory)}
        pid = None
        try:
            pid = self.zygote.fork("workers.runtime.compute.serve", descriptors, environment)
        finally:
            for descriptor in (stdin, stdout) if pid else (stdin, stdout, orders, answers):
                os.close(descriptor)
        if pid is None:
            return None
        return Forked(pid, os.fdopen(orders, "wb"), os.fdopen(answers, "rb"))
