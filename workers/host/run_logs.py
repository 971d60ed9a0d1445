"""The logs of runs on this host: whole, in private files, and bounded.

A log is ``<execution>-<attempt>.log``. What comes after its first part goes into further parts, ``.log.1``, ``.log.2``
and so on, of which the latest two stay: of a log that is too large, the middle is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from workers.contract.errors import ConfigError
from workers.contract.run_name import RunName
from workers.host.places import below

MIB = 2**20
#: Bytes of the first part, and of each further one; how many further ones stay. A log has 20 MiB at most.
FIRST_PART, FURTHER_PART, PARTS_KEPT = 10 * MIB, 5 * MIB, 2
#: How often a reader that follows a log looks, in seconds.
LOOK_EVERY = 0.2


class LogFile:
    """The log of one run, to be written. What the disk does not take is left out: no run fails for its log."""

    def __init__(self, directory: Path, run: RunName) -> None:
        self._path = below(directory, f"{run}.log")
        self._file: IO[bytes] | None = None
        self._part = self._size = 0
        with suppress(OSError):
            # The directory may have thousands of logs: it is looked through only for what is large
            if self._path.exists() and self._path.stat().st_size > FIRST_PART - FURTHER_PART:
                self._part = max(_parts(self._path), default=0)
            self._open()

    def write(self, text: bytes) -> None:
        """Add whole lines."""
        with suppress(OSError):
            if self._file and self._size + len(text) > (FURTHER_PART if self._part else FIRST_PART):
                self._next_part()
            if self._file:
                self._file.write(text)
                self._size += len(text)

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(_part(self._path, self._part), flags, 0o600), "ab", 0)
        self._size = self._file.tell()

    def _next_part(self) -> None:
        self.close()
        self._part += 1
        self._open()
        if (gone := self._part - PARTS_KEPT) > 0:
            _part(self._path, gone).unlink(missing_ok=True)


class RunLogs:
    """The logs of runs below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self, run: RunName) -> LogFile:
        """Return the log of a run, to be continued."""
        return LogFile(self.directory, run)

    def find(self, beginning: str, attempt: int | None = None) -> Path:
        """Return the log of an execution, by the beginning of its id; of its latest attempt, unless one is named.

        Raises ConfigError if there is none, or the beginning is that of several executions.
        """
        found = sorted(path for path in self.directory.glob("*.log") if path.name.startswith(beginning.lower()))
        if attempt is not None:
            found = [path for path in found if _attempt(path) == attempt]
        if not found or len(beginning) < 4:
            raise ConfigError(
                "there is no log of execution {} on this host; name at least 4 characters of its id. Logs are kept for "
                "as many days as keep_days of [logs] says",
                beginning,
            )
        if len({path.stem.rpartition("-")[0] for path in found}) > 1:
            raise ConfigError("several executions begin with {}; name more of its id", beginning)
        return max(found, key=_attempt)

    def attempts(self, path: Path) -> list[int]:
        """Return the attempts of which there are logs beside this one."""
        execution = path.stem.rpartition("-")[0]
        return sorted(_attempt(one) for one in self.directory.glob(f"{execution}-*.log"))

    def read(self, path: Path, *, follow: bool = False) -> Iterator[str]:
        """Yield the lines of a log, with a note where its middle is missing. ``follow``: go on with what is added, for
        ever. Raises OSError."""
        part = 0
        while True:
            yield from self._lines(path, part, follow)
            following = next((number for number in _parts(path) if number > part), None)
            if following is None:
                return
            if missing := following - part - 1:
                yield f"({missing * FURTHER_PART // MIB:,} MiB of this log are left out here: it is too large)"
            part = following

    def _lines(self, path: Path, part: int, follow: bool) -> Iterator[str]:
        rest = b""
        try:
            file = _part(path, part).open("rb")
        except FileNotFoundError:  # it went meanwhile, as newer parts came
            return
        with file:
            while True:
                if text := file.read(2**16):
                    *lines, rest = (rest + text).split(b"\n")
                    yield from (line.decode(errors="replace") for line in lines)
                elif follow and not any(number > part for number in _parts(path)):
                    time.sleep(LOOK_EVERY)
                else:
                    break
        if rest:
            yield rest.decode(errors="replace")

    def old(self, before: float) -> list[Path]:
        """Return the files of logs to which nothing was added since then, in seconds since the epoch."""
        found = []
        for path in sorted(self.directory.glob("*.log*")):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    found.append(path)
        return found

    def remove_old(self, days: float) -> None:
        """Remove logs to which nothing was added for so many days."""
        for path in self.old(time.time() - days * 86_400):
            with suppress(OSError):
                path.unlink()


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _parts(path: Path) -> list[int]:
    """Return the numbers of the parts that there are; 0 is the first."""
    further = path.parent.glob(f"{path.name}.*")
    numbers = [int(one.name.rpartition(".")[2]) for one in further if one.name.rpartition(".")[2].isdigit()]
    return [*([0] if path.exists() else []), *sorted(numbers)]


def _attempt(path: Path) -> int:
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdigit() else 0
