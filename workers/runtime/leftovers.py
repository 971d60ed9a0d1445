"""What is left over on a party host: journals, logs, private directories, traces and outputs that nothing needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from workers.contract.reports import MOST_DATASETS, OUTPUTS, UNNAMED
from workers.host.outputs import NOTE, read_note, remove_output
from workers.host.party import SUFFIXES, PartyHost
from workers.host.publication import verdicts
from workers.host.run_logs import RunLogs
from workers.host.stream import Stream
from workers.host.workdirs import is_in_use, traces
from workers.runtime.journal import Journal


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that may be removed."""

    what: str
    path: Path
    size: int
    #: Time of its last change, in seconds since the epoch.
    at: float
    #: Removes it, unless it is in use again. Returns whether it was removed. Raises OSError.
    remove: Callable[[], bool]


class Leftovers:
    """Finds what is left over and was not touched for a while."""

    def __init__(self, host: PartyHost, seconds: float) -> None:
        self.host, self.before = host, time.time() - seconds

    def files(self) -> Iterator[Leftover]:
        """Yield what this host can tell by itself to be left over: all but outputs."""
        journal = Journal(self.host.journal_dir)
        for path in journal.untouched(self.before):
            if self._runs(path.stem):
                continue
            what = "events that the control plane never took" if journal.is_late(path.name) else "delivered events"
            yield self._leftover(what, path, partial(journal.give_up, path, self.before))
        for path in RunLogs(self.host.logs_dir).old(self.before):
            if not self._runs(path.name.partition(".")[0]):
                yield self._leftover("log of a run", path, partial(_unlink, path))
        for path in self.host.workdirs.abandoned() if self.host.workdirs.root.is_dir() else ():
            yield self._leftover("directory of a process that is gone", path, partial(self._remove_directory, path))
        for path in sorted(self.host.output_dir.glob(f"*{NOTE}")):
            name = path.name.removesuffix(NOTE)
            if self._is_old(path) and not any((path.parent / f"{name}{suffix}").exists() for suffix in SUFFIXES):
                yield self._leftover("note of an output that is gone", path, partial(_unlink, path))
        for path, at in traces():
            if at < self.before:
                with suppress(OSError):
                    yield self._leftover("trace of a PSI", path, partial(_unlink, path))

    def outputs(self) -> dict[str, Leftover]:
        """Return the outputs that were not touched for a while, by name: whether they are named, the control plane
        knows. Those that party.toml names are none of its business."""
        registered, is_told = self.host.registered(), self.host.publishes("columns")
        paths = {source.path.resolve() for source in registered.values()}
        found = {}
        for path in sorted(self.host.output_dir.glob("*")):
            if path.suffix not in SUFFIXES or path.stem in registered or path.resolve() in paths:
                continue
            if not is_told and not read_note(path):  # nobody but this host knows the name of what no run has made
                continue
            if path.is_file() and not path.is_symlink() and self._is_old(path):
                remove = partial(self._remove_output, path, path.stat())
                found[path.stem] = self._leftover("output that nothing names", path, remove)
        return found

    def _is_old(self, path: Path) -> bool:
        return path.stat().st_mtime < self.before

    def _runs(self, attempt: str) -> bool:
        """Return whether a process of this attempt is alive."""
        path = self.host.workdirs.root / attempt
        return path.is_dir() and is_in_use(path)

    def _leftover(self, what: str, path: Path, remove: Callable[[], bool]) -> Leftover:
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size
        return Leftover(what, path, size, path.stat().st_mtime, remove)

    def _remove_directory(self, path: Path) -> bool:
        self.host.workdirs.remove_abandoned()
        return not path.exists()

    def _remove_output(self, path: Path, seen: os.stat_result) -> bool:
        with self.host.workdirs.private("prune") as trash:
            return remove_output(path, seen, trash)


def _unlink(path: Path) -> bool:
    path.unlink(missing_ok=True)
    return True


def ask(stream: Stream, names: Collection[str], seconds: float) -> dict[str, bool]:
    """Return for each output whether something on the control plane names it, as far as a coordinator answers within so
    many seconds. Raises RedisError or OSError."""
    told: dict[str, bool] = {}
    every = sorted(names)
    for first in range(0, len(every), MOST_DATASETS):
        some = every[first : first + MOST_DATASETS]
        question = str(uuid4())
        stream.report(OUTPUTS, {"publication": question, "outputs": some})
        answers = verdicts(stream.connection, stream.party, question, set(some), seconds)
        told |= {name: answer.get("verdict") != UNNAMED for name, answer in answers.items()}
    return told
