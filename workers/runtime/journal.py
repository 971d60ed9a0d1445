"""A party's events on its own disk, until the control plane has applied them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from redis.exceptions import RedisError

from workers.host.places import below
from workers.host.private_files import locked
from workers.host.stream import ROUND_TRIP, Stream


class Journal:
    """A party's events on disk, one file a job; beside it, while it holds what Redis did not take, a note of where.

    Written by the jobs' processes, read by the party's worker processes. An event may be delivered twice,
    after a crash between sending and noting it, and after Redis lost data; the reader drops the repetition.
    """

    #: A file that nothing was added to for this long may be removed, in seconds: longer than a delivery that is
    #: still under way can take.
    SETTLED_AFTER = 60.0

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def append(self, name: str, lines: list[str]) -> int:
        """Returns where in the file, in bytes, these lines begin. Raises OSError."""
        with locked(self.directory), below(self.directory, name).open("ab") as handle:
            place = handle.seek(0, os.SEEK_END)
            handle.write("".join(line + "\n" for line in lines).encode())
            return place

    def mark_late(self, name: str, place: int) -> None:
        """Note that Redis has nothing of this file from there on. Raises OSError."""
        with locked(self.directory):
            note = self._note(name)
            if not note.exists():
                note.write_text(str(place))

    def is_late(self, name: str) -> bool:
        """Return whether something of this file is still to be delivered."""
        return self._note(name).exists()

    def deliver(self, stream: Stream, *, everything: bool = False) -> int:
        """Send what is late, or every event there is; returns their number. Raises RedisError or OSError."""
        sent = 0
        for path in sorted(self.directory.glob("*.jsonl"), key=lambda p: (p.stat().st_mtime, p.name)):
            note = self._note(path.name)
            with locked(self.directory):
                if not path.exists() or not (everything or note.exists()):
                    continue
                place = 0 if everything else int(note.read_text() or 0)
                content = path.read_bytes()
            try:
                for end, lines in _batches(content, place):
                    stream.append(lines)
                    place, sent = end, sent + len(lines)
            except (RedisError, OSError):
                with locked(self.directory):
                    note.write_text(str(place))  # it goes on from there: what was sent need not go again
                raise
            with locked(self.directory):
                if path.exists() and path.stat().st_size > len(content):
                    note.write_text(str(len(content)))  # more came meanwhile
                else:
                    note.unlink(missing_ok=True)
        return sent

    def forget_applied(self) -> None:
        """Remove what has been delivered. To be called when the stream is empty: the reader removes what it applied."""
        now = time.time()
        for path in self.directory.glob("*.jsonl"):
            with locked(self.directory), suppress(FileNotFoundError):
                if not self._note(path.name).exists() and now - path.stat().st_mtime > self.SETTLED_AFTER:
                    path.unlink()

    def untouched(self, before: float) -> list[Path]:
        """Return the files that nothing was added to since then, in seconds since the epoch."""
        found = []
        for path in sorted(self.directory.glob("*.jsonl")):
            with suppress(FileNotFoundError):  # the worker may remove it in this moment
                if path.stat().st_mtime < before:
                    found.append(path)
        return found

    def give_up(self, path: Path, before: float) -> bool:
        """Remove a file and its note, delivered or not, unless something was added since then. Returns whether it was
        removed. Raises OSError."""
        with locked(self.directory):
            if not path.exists() or path.stat().st_mtime >= before:
                return False
            path.unlink()
            self._note(path.name).unlink(missing_ok=True)
        return True

    def _note(self, name: str) -> Path:
        return below(self.directory, name).with_suffix(".late")


def _batches(content: bytes, place: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a file from a place on, some at a time, each time with the place where they end."""
    lines: list[str] = []
    size = 0
    for raw in content[place:].splitlines(keepends=True):
        place, size = place + len(raw), size + len(raw)
        line = raw.decode(errors="replace").rstrip("\n")
        if line.endswith("}"):  # a process that is killed while it writes leaves half a line
            lines.append(line)
        if size >= ROUND_TRIP and lines:
            yield place, lines
            lines, size = [], 0
    if lines:
        yield place, lines
