"""What this host has left: memory, disk and CPU. Told with each heartbeat, for the control plane's metrics."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from workers.contract.resources import CPUS, DISK_FREE, DISK_TOTAL, LOAD, MEMORY_FREE, MEMORY_TOTAL

_GROUP = Path("/sys/fs/cgroup")


class Resources:
    """Looks at this host now and then, in a thread of its own: a disk over the network that hangs holds up no
    heartbeat, without which the worker would be taken for dead."""

    INTERVAL = 10.0

    def __init__(self, directory: Path) -> None:
        """``directory``: of whose disk the free space is told."""
        self._directory = directory
        self._ended = threading.Event()
        #: By field of the worker's key; what was seen last.
        self.told: dict[str, str] = {}

    def start(self) -> None:
        threading.Thread(target=self._watch, name="resources", daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while True:
            with suppress(OSError, ValueError, StopIteration):  # told is then what it was
                self.told = {field: f"{figure:.10g}" for field, figure in self.look().items()}
            if self._ended.wait(self.INTERVAL):
                return

    def look(self) -> dict[str, float]:
        """Return the figures as of now. Raises OSError, or ValueError where the system tells no numbers."""
        disk = shutil.disk_usage(self._directory)
        return {
            MEMORY_FREE: max(0, free_memory()),
            MEMORY_TOTAL: whole_memory(),
            DISK_FREE: disk.free,
            DISK_TOTAL: disk.total,
            LOAD: os.getloadavg()[0],
            CPUS: len(os.sched_getaffinity(0)),
        }


def free_memory() -> int:
    """Return bytes that a new process can take: of the host, or of this container where that is less."""
    available = _told_by_kernel("MemAvailable:")
    with suppress(OSError, ValueError):
        available = min(available, _limit() - int((_GROUP / "memory.current").read_text()))
    return available


def whole_memory() -> int:
    """Return the bytes of memory of the host, or those that this container may have where that is less."""
    total = _told_by_kernel("MemTotal:")
    with suppress(OSError, ValueError):
        total = min(total, _limit())
    return total


def _limit() -> int:
    return int((_GROUP / "memory.max").read_text())  # "max" where there is no limit


def _told_by_kernel(name: str) -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
