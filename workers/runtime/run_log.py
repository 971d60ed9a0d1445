"""The log of one run at its worker: all of it goes into a file, and what the policy lets out waits to be sent."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from workers.contract.logs import LEVELS, SOURCE_LENGTH, TEXT_LENGTH, Line
from workers.contract.run_name import RunName
from workers.host.log_lines import safe_line, whole_line
from workers.host.party import PartyHost
from workers.host.run_logs import LogFile, RunLogs
from workers.runtime.process_log import without_marks
from workers.runtime.told_lines import read_mark

#: Takes secrets and paths out of a text.
Mask = Callable[[str], str]

#: Lines that a run may send in a second, and at once.
RATE, BURST = 50, 300
#: The last lines of a failed run, which are sent beyond all that was sent before.
LAST_LINES = 50
#: Characters of a line that are looked at before it is cut, so that no secret is cut in two.
LOOKED_AT = 8 * TEXT_LENGTH


class RunLog:
    """One run's log. Its lines come in the threads that read its processes, and are sent by another."""

    def __init__(
        self, host: PartyHost, run: RunName, wake: Callable[[RunLog], object], documents: Mapping[str, Any]
    ) -> None:
        """``wake`` is called when there is something to send; ``documents`` are the run's."""
        self.host, self.run, self.documents = host, run, documents
        self._file: LogFile | None = None
        self._wake = wake
        sends = host.sends_logs
        self._is_on, self._whole = sends != "off", host.logs.text == "all"
        #: The lowest level that is sent while the run goes on; None if only the last lines of a failure are.
        self._level = LEVELS.get(sends)
        self._left = host.logs.lines
        self._job = run.job_of(host.name)
        self._known_level = LEVELS["info"]
        self._allowance, self._allowed_at = float(BURST), time.monotonic()
        #: Of all that follows: processes are read in threads of their own.
        self._lock = threading.Lock()
        #: Lines to be sent.
        self._waiting: list[Line] = []
        #: The last lines that were not sent, for the case of a failure.
        self._last: deque[Line] = deque(maxlen=host.logs.lines if self._level is None else LAST_LINES)
        #: Lines of a level that is sent, and that were too many or too fast.
        self._dropped = 0
        self._failed = False
        self.has_ended = False
        #: Of the sender: messages that it has sent, and what masks their texts.
        self.number = 0
        self.masked: Mask | None = None

    def begin(self) -> None:
        """Open the file, once more if another process of the run has ended before."""
        with self._lock:
            self._file = self._file or RunLogs(self.host.logs_dir).open(self.run)
            self.has_ended = False

    def lines(self, text: bytes, beginning: bytes) -> bytes:
        """Take whole lines of a process, some of them marks, which begin so. Returns the lines without marks."""
        plain = without_marks(text, beginning)
        with self._lock:
            self._keep(plain)
            if self._is_on:
                now = time.time()
                for line in text.split(b"\n"):
                    if line:
                        self._look_at(line, beginning, now)
            has_news = bool(self._waiting)
        if has_news:
            self._wake(self)
        return plain

    def note(self, text: str, *, is_bad: bool = False) -> None:
        """Add a line of the worker's own, which has no names."""
        level = "warning" if is_bad else "info"
        now = time.time()
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        with self._lock:
            self._keep(f"{clock},{int(now % 1 * 1000):03} {level.upper()} worker: {self._job}: {text}\n".encode())
            if self._is_on:
                self._offer((now, LEVELS[level], "worker", text))

    def end(self, *, failed: bool = False) -> None:
        """Close the file, and send what is left; if the run failed, its last lines, too."""
        with self._lock:
            if self._file:
                self._file.close()
                self._file = None
            self.has_ended = True
            if self._failed or failed:
                if self._level is not None:
                    self._dropped = max(0, self._dropped - len(self._last))
                self._waiting.extend(self._last)
                self._last.clear()
            has_news = bool(self._waiting or self._dropped)
        if has_news:
            self._wake(self)

    def take(self) -> tuple[list[Line], int]:
        """Return the lines to be sent, and how many were left out before; both are the caller's then."""
        with self._lock:
            lines, dropped = self._waiting, self._dropped
            self._waiting, self._dropped = [], 0
        return lines, dropped

    def give_up(self, number: int) -> None:
        """Count lines that could not be sent."""
        with self._lock:
            self._dropped += number

    def _keep(self, text: bytes) -> None:
        if self._file:
            self._file.write(text)

    def _look_at(self, raw: bytes, beginning: bytes, now: float) -> None:
        if mark := read_mark(raw, beginning):
            self._failed |= bool(mark.get("failed"))
            for text in mark.get("lines", ()):
                self._offer((now, int(mark["level"]), str(mark["source"])[:SOURCE_LENGTH], str(text)))
            return
        text = raw.decode(errors="replace")[:LOOKED_AT]
        if self._whole:
            line = whole_line(text, now, self._known_level, self._job)
            self._known_level = line[1]
            self._offer(line)
        elif told := safe_line(text, now):
            self._offer(told)

    def _offer(self, line: Line) -> None:
        if self._level is None:
            self._last.append(line)
        elif line[1] >= self._level:
            if self._left and self._is_allowed():
                self._left -= 1
                self._waiting.append(line)
            else:
                self._dropped += 1
                self._last.append(line)

    def _is_allowed(self) -> bool:
        now = time.monotonic()
        self._allowance = min(float(BURST), self._allowance + (now - self._allowed_at) * RATE)
        self._allowed_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
