"""Reads what a compute process writes to standard error: for the worker's own standard error, and for its run's log."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
from contextlib import suppress
from typing import Protocol

from workers.runtime.told_lines import beginning_of

log = logging.getLogger(__name__)

#: Bytes that wait to be read before the process has to wait itself.
ROOM = 2**20
#: Longest line, in bytes: what is longer comes in several.
LONGEST = 2**16
#: How long the end of the process's lines is waited for after its own end, in seconds: a child of it may live on.
DRAIN_SECONDS = 0.5


class Reader(Protocol):
    """What takes the lines of a run."""

    def lines(self, marked: bytes, beginning: bytes) -> bytes: ...


class ProcessLog:
    """One process's standard error: a pipe, and a thread that reads it for as long as anybody writes there."""

    def __init__(self) -> None:
        """Raises OSError where there can be no pipe, and RuntimeError where there can be no thread."""
        #: With this word begin the process's marks, see :mod:`workers.runtime.told_lines`.
        self.mark = secrets.token_hex(8)
        self._run: Reader | None = None
        self._lock = threading.Lock()
        self._read, self.write = os.pipe()
        with suppress(OSError):  # the user may have as many large pipes already as the system allows
            fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, ROOM)
        self._thread = threading.Thread(target=self._copy, name="log of a process", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            os.close(self._read)
            self.close_ours()
            raise

    def close_ours(self) -> None:
        """Close this process's own end, once the other process has it."""
        os.close(self.write)

    def begin(self, run: Reader) -> None:
        """Have the lines from now on be this run's, too."""
        with self._lock:
            self._run = run

    def end(self) -> None:
        """Have the lines be no run's any more."""
        with self._lock:
            self._run = None

    def drain(self) -> None:
        """Wait until all has been read that a process wrote which has ended."""
        self._thread.join(DRAIN_SECONDS)

    def _copy(self) -> None:
        beginning, rest = beginning_of(self.mark), b""
        while True:
            try:
                came = os.read(self._read, LONGEST)
            except OSError:
                came = b""
            text = rest + came
            end = text.rfind(b"\n") + 1
            if not came or (not end and len(text) >= LONGEST):
                end = len(text)
            whole, rest = text[:end], text[end:]
            if whole:
                self._pass_on(whole, beginning)
            if not came:
                os.close(self._read)
                return

    def _pass_on(self, text: bytes, beginning: bytes) -> None:
        with self._lock:
            try:
                text = self._run.lines(text, beginning) if self._run else without_marks(text, beginning)
            except Exception:  # whatever it is, a process must not wait for a reader that has gone
                log.exception("lines of a run's log were not kept")
                text = without_marks(text, beginning)
        with suppress(OSError):
            while text:
                text = text[os.write(2, text) :]


def without_marks(text: bytes, beginning: bytes) -> bytes:
    """Return lines without the marks among them."""
    if beginning not in text:
        return text
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(beginning))
