"""What whoever looks after a host sees of its processes: titles, log lines, and stacks on SIGUSR1."""

from __future__ import annotations

import faulthandler
import logging
import os
import platform
import signal
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from setproctitle import setproctitle, setthreadtitle

from workers.runtime.told_lines import note

#: Id of the job that this process is at, which has party, execution and attempt in it.
_job = ""


def name_process(party: str, role: str, what: str = "") -> None:
    """Tell ``ps`` whose process this is, what for, and what it is doing."""
    setproctitle(f"rqworker {party}: {role}{what and f', {what}'}")
    # It sets the kernel's short name as well, and brpc, which reads that each second, complains of a space in it
    setthreadtitle("rqworker")


def write_log() -> None:
    """Have this process write its log to standard error: each line with the job that it is about, and the stacks of
    all threads on SIGUSR1."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    logging.getLogger("workers").setLevel(logging.INFO)  # SecretFlow sets the level of all others
    make = logging.getLogRecordFactory()

    def make_about_job(*args: Any, **options: Any) -> logging.LogRecord:
        record = make(*args, **options)
        note(record)
        # In the text and not in the format: SecretFlow's handlers have formats of their own
        record.msg = f"{_job}: {record.msg}" if _job else record.msg
        return record

    logging.setLogRecordFactory(make_about_job)
    write_stacks_on_signal()


def write_stacks_on_signal() -> None:
    """Have the stacks of all threads written to standard error on SIGUSR1, and before a crash ends the process."""
    faulthandler.enable(file=2, all_threads=True)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)


def begin_job(job: str) -> None:
    """Have the log's lines say that they are about this job."""
    global _job
    _job = job


def end_job() -> None:
    """Have the log's lines be about no job."""
    begin_job("")


def ended_how(status: int) -> str:
    """Return an exit status in words; it is negative after a signal."""
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else "of no name"
    return f"signal {-status} ({name})"


def describe_host(how_it_starts: str) -> str:
    """Return what a worker runs on, in a line: versions, cores, memory, and how it starts its compute processes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {name: _version(name) for name in ("secretflow", "spu", "rq")}
    packages = ", ".join(f"{name} {number}" for name, number in found.items())
    return (
        f"Python {platform.python_version()}, {packages}; {len(os.sched_getaffinity(0))} cores, {memory:.1f} GiB of "
        f"memory; {how_it_starts}"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
