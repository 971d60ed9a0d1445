"""Ends a run that takes more of this host than its party.toml allows."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workers.host.party_file import Limits

log = logging.getLogger(__name__)

#: Exit statuses of a process that ended for the sake of a limit, and the limits' names.
EXCEEDED = {81: "max_memory_mb", 82: "max_run_seconds", 83: "max_disk_mb"}
_STATUS = {name: status for status, name in EXCEEDED.items()}
#: How often it looks, in seconds: memory can grow by gigabytes in one. Files are looked at less often.
INTERVAL, OF_FILES = 0.1, 1.0
_MIB = 2**20


@contextmanager
def limited(limits: Limits, directory: Path) -> Iterator[None]:
    """Have this process ended, in the meantime, once it takes more than these limits. ``directory``: its files'.

    The process ends at once, whatever native code it is in; its worker then reports which limit it was, and removes its
    files.
    """
    if limits == Limits():
        yield
        return
    over = threading.Event()
    threading.Thread(target=_watch, args=[limits, directory, over], name="limits", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(limits: Limits, directory: Path, over: threading.Event) -> None:
    begun = looked = time.monotonic()
    while not over.is_set():  # at once, too: a short run is over by the second time
        now = time.monotonic()
        if limits.max_memory_mb is not None and memory() > limits.max_memory_mb * _MIB:
            _end("max_memory_mb", limits.max_memory_mb)
        if limits.max_run_seconds is not None and now - begun > limits.max_run_seconds:
            _end("max_run_seconds", limits.max_run_seconds)
        if limits.max_disk_mb is not None and now - looked >= OF_FILES:
            if size_of(directory) > limits.max_disk_mb * _MIB:
                _end("max_disk_mb", limits.max_disk_mb)
            looked = time.monotonic()  # a walk through many files may take a while
        over.wait(INTERVAL)


def _end(name: str, most: int) -> None:
    log.error("ending: this run takes more than %s = %s of party.toml allows", name, most)
    os._exit(_STATUS[name])


def memory() -> int:
    """Return how many bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def size_of(directory: Path) -> int:
    """Return how many bytes the files below a directory take on the disk, without those that go meanwhile."""
    size = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            with suppress(OSError):
                size += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return size
