"""A compute process as its worker sees it; what it does itself is in :mod:`workers.runtime.compute`."""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from workers.network.links import LINK_LOST
from workers.runtime.diagnosis import ended_how
from workers.runtime.forked import Forked
from workers.runtime.process_log import ProcessLog
from workers.runtime.run_log import RunLog

log = logging.getLogger(__name__)

READY = b"ready"
#: What a process says when its job is done and it is about to end.
DONE = "done"
#: What a process is for that will be given a job, and not questions.
FOR_A_JOB = "a job"
#: Signal that ends a process whose job is done, and whose links hang as they end.
LINKS_STAY = signal.SIGALRM
#: Exit status of a process that ended because nobody looked after it any more.
ABANDONED = 70


class ComputeProcess:
    """A process that waits for one job, or for questions; :class:`workers.runtime.starter.Starter` starts it.

    It has a pipe of its own, and one user at a time.
    """

    #: Seconds that it may take to end by itself.
    PATIENCE = 5.0

    def __init__(
        self,
        process: Forked | subprocess.Popen[bytes],
        purpose: str,
        directory: Path | None = None,
        log: ProcessLog | None = None,
    ) -> None:
        self.process = process
        self.purpose = purpose
        #: Questions that it was asked and has answered.
        self.answered = 0
        self._directory = directory
        #: What it writes to standard error, and the log of the run that it has.
        self._log = log
        self._run_log: RunLog | None = None
        self._has_done_its_job = False
        self._told_end = False
        self._ready = False
        self._heard = bytearray()
        #: Several threads ask whether it is ready.
        self._listening = threading.Lock()

    def is_ready(self, wait: float = 0) -> bool:
        """Return whether it has imported everything; waits up to ``wait`` seconds for it, less if it ended instead."""
        if self.process.poll() is not None:
            return False
        if not self._ready:
            self._ready = self._line(wait) == READY
        return self._ready

    def ask(self, question: dict[str, Any], interval: float, still_waiting: Callable[[], None]) -> Any:
        """Return its answer, as JSON; None if it ended before. ``still_waiting`` is called every ``interval`` seconds.

        Where this raises, the process is of no more use: its answer is still to come.
        """
        try:
            self.tell(question)
            while (line := self._said(interval)) is None:
                still_waiting()
            self.answered += 1
            return json.loads(line or b"null")
        except (BrokenPipeError, ValueError):
            return None

    def _said(self, wait: float) -> bytes | None:
        """Return its next line but for the one that says that it is ready, which it may owe still."""
        line = self._line(wait)
        return self._line(wait) if line == READY else line

    def _line(self, wait: float) -> bytes | None:
        """Return its next line; nothing if it has ended, None if it says nothing for so many seconds."""
        assert self.process.stdout
        answers, until = self.process.stdout.fileno(), time.monotonic() + wait
        while True:
            with self._listening:
                # Not by a buffered file: what it holds already, select does not know of
                while b"\n" not in self._heard and select.select([answers], [], [], 0)[0]:
                    if not (came := os.read(answers, 65_536)):
                        return b""
                    self._heard += came
                if b"\n" in self._heard:
                    line, _, self._heard = self._heard.partition(b"\n")
                    return bytes(line)
            if (left := until - time.monotonic()) <= 0:
                return None
            select.select([answers], [], [], left)

    def tell(self, message: dict[str, Any]) -> None:
        """Give it a message. Raises BrokenPipeError if it is gone."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def give(self, job: dict[str, Any], run_log: RunLog | None) -> None:
        """Give it its job; what it logs from now on is the log of the job's run. Raises BrokenPipeError if it is
        gone."""
        self.end_log()
        self._has_done_its_job = False
        if run_log:
            self._run_log = run_log
            run_log.begin()
            if self._log:
                self._log.begin(run_log)
        self.tell(job)

    def end_log(self, how: str = "", *, failed: bool = False) -> None:
        """Close the log of its run, with a line that says how it ended."""
        run_log, self._run_log = self._run_log, None
        if run_log is None:
            return
        if self._log:
            self._log.end()
        if how:
            run_log.note(how, is_bad=failed)
        run_log.end(failed=failed)

    def outcome(self, wait: float) -> Any:
        """Once its job is done: the session that it keeps for another one, as JSON; ``"done"`` if it keeps none and is
        about to end; None if it ends without a word.

        Raises TimeoutError if it is still at work after so many seconds.
        """
        if (line := self._said(wait)) is None:
            raise TimeoutError
        self._has_done_its_job = bool(line)
        return json.loads(line or b"null")

    def close(self, why: str = "") -> None:
        """End it, at once if it does not end by itself, and tell the log; ``why``: of one that was killed already."""
        assert self.process.stdin
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(self.PATIENCE)
        except subprocess.TimeoutExpired:
            why = f"as it had not ended by itself after {self.PATIENCE:g} s"
            self.process.kill()
            self.process.wait()
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
        self.tell_end(why)

    def tell_end(self, why: str = "") -> None:
        """Tell the log, once, how it ended, and why if that is known."""
        if (status := self.process.poll()) is not None and not self._told_end:
            self._told_end = True
            level = logging.INFO if status == 0 else logging.WARNING
            how = f"{ended_how(status)}, {why}" if why else ended_how(status)
            if self._log:
                self._log.drain()  # what it said last comes before this
            log.log(level, "the process for %s (pid %s) ended: %s", self.purpose, self.process.pid, how)
            is_fine = self._has_done_its_job or status in (0, LINK_LOST)
            self.end_log(f"the process ended: {how}", failed=not is_fine)
