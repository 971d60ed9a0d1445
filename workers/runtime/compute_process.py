"""A compute process as its worker sees it; what it does itself is in :mod:`workers.runtime.compute`."""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from workers.host.party import PartyHost
from workers.runtime.zygote import ROOT, Zygote

log = logging.getLogger(__name__)

READY = b"ready\n"
#: Exit status of a process that ended because nobody looked after it any more.
ABANDONED = 70


class Forked:
    """A child process that the zygote forked, with as much of ``subprocess.Popen`` as is used here."""

    #: Returned by ``poll`` and ``wait`` if somebody else waited for the process, and has yet to set ``returncode``.
    UNKNOWN = 255

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None
        # Of two threads that poll at once, one would be told that there is no such child
        self._polling = threading.Lock()

    def poll(self) -> int | None:
        with self._polling:
            if self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # RQ waits for its work horse by itself
                    return self.UNKNOWN
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.005)
        return status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class ComputeProcess:
    """A waiting process, ready for one job. Create it in the main thread: it dies with the thread that made it.

    Raises OSError where no process can be started.
    """

    START_TIMEOUT = 120.0

    def __init__(self, worker: str, redis_url: str, host: PartyHost, zygote: Zygote) -> None:
        # What SecretFlow leaves under TMPDIR goes with the process: see WorkDirectories.remove_abandoned
        self._directory = host.workdirs.root / f"process-{uuid4()}"
        with host.workdirs.claim(self._directory) as lock:  # locked until the process ends, however it does
            self.process = _forked(zygote, lock, self._directory) or subprocess.Popen(
                [sys.executable, "-m", "workers.runtime.compute"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
                env=os.environ | {"TMPDIR": str(self._directory)},
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )
        # Over the pipe, not in the arguments: the URL may carry a password
        self._write({"worker": worker, "redis_url": redis_url, "host": host.as_message(), "parent": os.getpid()})
        self._ready = False
        #: Several threads ask whether it is ready.
        self._listening = threading.Lock()

    def is_ready(self, wait: float = 0) -> bool:
        """Return whether it has imported everything; waits up to ``wait`` seconds for it, less if it ended instead."""
        if self.process.poll() is not None:
            return False
        with self._listening:
            if not self._ready and self._speaks(wait):
                assert self.process.stdout
                self._ready = self.process.stdout.readline() == READY
        return self._ready

    def ask(self, question: dict[str, Any], interval: float, still_waiting: Callable[[], None]) -> Any:
        """Return its answer, as JSON; None if it ended before. ``still_waiting`` is called every ``interval``
        seconds.

        A job that it is given meanwhile begins after the answer.
        """
        try:
            self._write(question)
            while not self._speaks(interval):
                still_waiting()
            assert self.process.stdout
            return json.loads(self.process.stdout.readline() or b"null")
        except (BrokenPipeError, ValueError):
            return None

    def _speaks(self, wait: float | None) -> bool:
        """Return whether there is something to read, or the process has ended; waits so long for it, without limit
        if None."""
        assert self.process.stdout
        return bool(select.select([self.process.stdout], [], [], wait)[0])

    def take(self, order: dict[str, Any]) -> None:
        """Give it its job. Raises BrokenPipeError if it is gone."""
        self._write(order)

    def outcome(self) -> Any:
        """Once its job is done: the session that it keeps for another one, as JSON; None if it has ended."""
        assert self.process.stdout
        while True:
            self._speaks(None)
            with self._listening:
                line = self.process.stdout.readline()
                # It may have been given the job before it had said that it is ready
                if line != READY:
                    return json.loads(line or b"null")
                self._ready = True

    def close(self) -> None:
        """End it, unless it has a job."""
        assert self.process.stdin
        try:
            self.process.stdin.close()
            self.process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _write(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()


def _forked(parent: Zygote, lock: IO[str], directory: Path) -> Forked | None:
    """Return the process; None where the zygote must not fork. Raises OSError where none can be started."""
    stdin, orders = os.pipe()
    answers, stdout = os.pipe()
    pid = None
    try:
        pid = parent.fork("workers.runtime.compute.serve", [stdin, stdout, lock.fileno()], {"TMPDIR": str(directory)})
    finally:
        for descriptor in (stdin, stdout) if pid else (stdin, stdout, orders, answers):
            os.close(descriptor)
    if pid is None:
        return None
    return Forked(pid, os.fdopen(orders, "wb"), os.fdopen(answers, "rb"))
