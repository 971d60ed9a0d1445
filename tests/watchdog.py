"""Ends what a test process leaves behind, however it ended: ``python tests/watchdog.py <pid> <directory>``.

A pytest that is killed stops nothing, and of what it started some does not end by itself: PostgreSQL, which is a
daemon, and whatever was stopped (SIGSTOP) in that moment. This process waits for the end of that one, then kills what
came from it, and removes its directory. It is started by ``tests.stack``.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "TESTS_OF"
#: Seconds in which what was told to end by the death of its parent may do so.
PATIENCE = 2.0


def start(directory: Path) -> None:
    """Have what this process and its children start end with it. ``directory``: its own, and its mark."""
    command = [sys.executable, "-S", "-E", __file__, str(os.getpid()), str(directory)]
    environment = {k: v for k, v in os.environ.items() if k != MARK}
    if os.fork() == 0:
        # Not a child of pytest, nor of its session: what ends that, ends this not
        os.setsid()
        if os.fork() == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            os.closerange(3, 1024)
            os.execve(sys.executable, command, environment)
        os._exit(0)
    os.wait()


def left_behind(directory: Path) -> Iterator[int]:
    """Yield the processes that carry the mark of this directory, or have something in it open: a process that sets its
    title overwrites the environment that it shows."""
    mark = f"{MARK}={directory}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended, or is another user's
            if mark in (process / "environ").read_bytes() + b"\0" or _is_in(directory, process):
                yield int(process.name)


def _is_in(directory: Path, process: Path) -> bool:
    for link in (process / "cwd", *(process / "fd").iterdir()):
        with suppress(OSError):
            if os.readlink(link).startswith(f"{directory}/"):
                return True
    return False


def stop_postgres(directory: Path) -> None:
    """Have the server end at once, but by itself: it then leaves no shared memory behind."""
    with suppress(OSError, ValueError, IndexError):
        pid = int((directory / "postgres/postmaster.pid").read_text().splitlines()[0])
        if str(directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGQUIT)


def main(pid: int, directory: Path) -> None:
    with suppress(ProcessLookupError):
        select.select([os.pidfd_open(pid)], [], [])
    stop_postgres(directory)
    end = time.monotonic() + PATIENCE
    while found := list(left_behind(directory)):
        if time.monotonic() > end:
            for left in found:
                with suppress(OSError):
                    os.kill(left, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
