"""Peak memory of processes, as the kernel counts it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

#: Seconds. Seldom: looking costs time, which is measured beside, and the kernel keeps the peak while a process lives.
INTERVAL = 0.25


class PeakMemory:
    """Of these processes and all their descendants, while the context lasts: ``mb`` is the largest single peak."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.mb = 0.0
        self._pids = list(pids)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            for pid in self._pids:
                self.mb = max([self.mb, *_peaks(pid)])
            if self._over.wait(INTERVAL):
                return


def _peaks(pid: int) -> Iterator[float]:
    """MB of the process and of each descendant; nothing of one that has ended."""
    process = Path(f"/proc/{pid}")
    try:
        status = process.joinpath("status").read_text()
        children = [child for found in process.glob("task/*/children") for child in found.read_text().split()]
    except OSError:
        return
    yield from (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    for child in children:
        yield from _peaks(int(child))
