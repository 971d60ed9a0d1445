"""Pre-flight: what a party's own host says to a run before anyone starts it. Facts leave the host, never rows.

The control plane puts a request into the list ``preflight:<party>``. A worker's :class:`Desk` takes it and has
the waiting process, which has SecretFlow imported, do the checks; the report goes into the party's stream.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError

from workers.connection import trouble, when_it_takes_writes
from workers.errors import ConfigError, ResourceError, classify, contract_name
from workers.events import WORKER_LENGTH, report, shortened
from workers.executors.base import TABLE
from workers.party import PartyHost
from workers.standby import Standby
from workers.tables import drift, seen_types

log = logging.getLogger(__name__)

#: Kind of these reports in a party's stream.
REPORT = "preflight"
#: How long a party waits for the others, in seconds: all are asked at the same moment.
MEETING_SECONDS = 10.0
#: How long a request is wanted, in seconds; and for how much of that a worker may take it: then the control plane has
#: given up on this party, and its peers have gone home.
WANTED_SECONDS, TAKE_WITHIN = 20, 10
#: Longer than the checks of any table take, in seconds.
LIMIT = 600.0
#: How often a report says that the checks go on, in seconds.
SIGN_OF_LIFE = 2.0

MIB = 2**20
#: What a run takes beside what was imported already; measured with PSI of a million rows (3-facts.md section 2).
MEMORY_BASE, MEMORY_PER_ROW = 256 * MIB, 512
#: Sorted keys, the intersection and the output, beside each other on the disk.
DISK_BASE, DISK_PER_BYTE = 64 * MIB, 3


def requests_of(party: str) -> str:
    """The Redis key of the list of requests to a party."""
    return f"preflight:{party}"


def wanted(preflight: str) -> str:
    """The Redis key that is there, for WANTED_SECONDS, as long as somebody waits for these checks."""
    return f"preflight:wanted:{preflight}"


def check(host: PartyHost, request: Mapping[str, Any], connection: Redis | None = None) -> dict[str, Any]:
    """Do all checks at this host. Never raises. ``connection`` tells whether they were called off.

    ``request``: ``preflight`` (its id), ``documents`` as this party would be sent them, and ``columns``, the
    registered schema of its dataset, if there is one. Returns ``checks``, a list of ``check`` with ``error`` and
    ``error_type`` where it failed, and ``facts``, JSON.
    """
    return _Checks(request, connection).of(host)


class _Checks:
    def __init__(self, request: Mapping[str, Any], connection: Redis | None) -> None:
        self.request, self.connection = request, connection
        self.checks: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {"versions": versions(), "cpus": os.cpu_count()}

    def of(self, host: PartyHost) -> dict[str, Any]:
        # Tables that have to be converted are, into here
        with tempfile.TemporaryDirectory(dir=os.environ["TMPDIR"]) as directory, suppress(_Failed):
            self._run(host, Path(directory))
        return {"checks": self.checks, "facts": self.facts}

    def _run(self, host: PartyHost, directory: Path) -> None:
        from workers import pipeline

        documents = self.request["documents"]
        with self._check("documents"):
            host = host.reload()
            host.prepare_directories()
            run = pipeline.accept(host, documents)
        with self._check("ports", vital=False):
            pipeline.check_ports(host, run)
        if not self.checks[-1].get("error"):
            with self._check("peers", vital=False):
                name = f"preflight {self.request['preflight']}"
                pipeline.meet_peers(host, run, documents, name, timeout=MEETING_SECONDS, given_up=self.given_up)
            if self.checks[-1].get("error") and self.given_up():
                self.checks.pop()  # another party failed, and is why this one missed it
        with self._check("dataset"):
            if table := run.task.data_sources.get(host.name):
                self.facts["dataset"] = {"name": table}
            session = pipeline.session_of(host, run, directory)
            rows = 0
            for role, source in session.sources.items():
                if source.kind != TABLE:
                    continue
                found = host.describe(source)
                rows += found["rows"]
                if not role:
                    # What is registered is no news to the control plane
                    seen = seen_types(source.path, source.name)
                    own = found["columns"] | {column: seen[column] for column in source.registered_types}
                    self.facts["dataset"] |= host.published(found | {"columns": own})
                    self._compare(source.name, found["columns"])
            params = run.executor.parse_params(run.task.algorithm_params)
            if "" in session.sources and run.executor.lines_up(params, host.name):
                self.facts |= {"rows_line_up": True, "alignment": session.source.alignment}
        with self._check("data", vital=False):
            executor = run.executor(session)
            executor.adapted(executor.validate_params(run.task.algorithm_params), run.devices)
        size = sum(source.path.stat().st_size for source in session.sources.values())
        with self._check("memory", vital=False):
            self._afford("memory", free_memory(), MEMORY_BASE + MEMORY_PER_ROW * rows + 2 * size)
        with self._check("disk", vital=False):
            needed = DISK_BASE + DISK_PER_BYTE * size
            self._afford("disk", shutil.disk_usage(host.output_dir).free, needed)

    @contextmanager
    def _check(self, name: str, *, vital: bool = True) -> Iterator[None]:
        entry: dict[str, Any] = {"check": name}
        self.checks.append(entry)
        try:
            yield
        except Exception as error:
            failure = classify(error)
            if not isinstance(error, type(failure)):
                log.warning("pre-flight check %s failed", name, exc_info=error)
            entry |= {"error": shortened(str(failure)), "error_type": contract_name(failure)}
            if vital:
                raise _Failed from None

    def given_up(self) -> bool:
        try:
            return bool(self.connection and not self.connection.exists(wanted(self.request["preflight"])))
        except (RedisError, OSError):
            return False

    def _compare(self, dataset: str, found: Mapping[str, str]) -> None:
        """Raise ConfigError where the table no longer holds what is registered on the control plane."""
        registered = self.request.get("columns")
        if not isinstance(registered, Mapping):
            return
        if wrong := [line for line, harmful in drift(registered, found) if harmful]:
            raise ConfigError(
                f"dataset {dataset} is not as registered: {', '.join(wrong)}; "
                "correct the table, or publish it again (manage.py publish_datasets), take the report over on the "
                "dataset's page, and adapt the task"
            )

    def _afford(self, what: str, free: int, needed: int) -> None:
        self.facts[f"free_{what}"] = free
        if free < needed:
            raise ResourceError(
                f"{what} is short on this host: {free // MIB:,} MiB free, the run needs about {needed // MIB:,}; "
                f"free some, or wait until other runs have ended"
            )


class _Failed(Exception):
    """A check failed that the others build on."""


def versions() -> dict[str, str]:
    """Of the packages that have to be the same at all parties."""
    found = {}
    for package in ("secretflow", "spu"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def free_memory() -> int:
    """Bytes that a new process can take: of the host, or of this container where that is less."""
    available = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())  # "max" where there is no limit
        available = min(available, most - int((group / "memory.current").read_text()))
    return available


class Desk:
    """Answers the requests for checks, in a thread of the worker process, also while a job runs."""

    def __init__(self, host: PartyHost, connection: Redis, worker: str, standby: Callable[[], Standby | None]) -> None:
        self.host, self.connection, self.worker, self._standby = host, connection, worker, standby

    def serve(self, alive: threading.Event) -> None:
        """Until ``alive`` is cleared."""
        while alive.is_set():
            # Asked first: a request belongs to a worker that can answer it at once
            standby = self._standby()
            if standby is None or not standby.is_ready():
                time.sleep(0.05)
                continue
            try:
                taken: Any = self.connection.blpop([requests_of(self.host.name)], timeout=1)
            except (RedisError, OSError):
                time.sleep(1)
                continue
            if taken:
                try:
                    self._answer(taken[1])
                except (RedisError, OSError) as error:
                    # Not a loss: what is not answered is asked again
                    log.warning("a pre-flight report was not delivered: %s", trouble(error))

    def _answer(self, raw: bytes) -> None:
        try:
            request = json.loads(raw)
            preflight, _ = str(UUID(request["preflight"])), request["documents"]["sf_init_config"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            log.warning("a malformed request for pre-flight checks was dropped")
            return
        if self.connection.pttl(wanted(preflight)) < 1000 * (WANTED_SECONDS - TAKE_WITHIN):
            return  # of an execution that was cancelled, or from when no worker was there
        standby = self._standby()
        if standby is None or not standby.is_ready():  # a job took it in this moment
            self.connection.rpush(requests_of(self.host.name), raw)
            return

        def say(content: Mapping[str, Any], patience: float = TAKE_WITHIN) -> None:
            message = {"preflight": preflight, "worker": self.worker[:WORKER_LENGTH], **content}
            tell = partial(report, self.connection, self.host.name, REPORT, message)
            when_it_takes_writes(tell, patience=patience)

        begun = time.monotonic()

        def go_on() -> None:
            say({}, 0)
            if time.monotonic() - begun > LIMIT:  # whatever it is at: the worker needs a process for jobs
                standby.process.kill()

        say({})
        answer = standby.ask({"preflight": request}, SIGN_OF_LIFE, go_on)
        if answer is None:
            error = "the checking process ended before it was done: killed, for want of memory, or after its time limit"
            answer = {"checks": [{"check": "process", "error": error, "error_type": "ResourceError"}], "facts": {}}
        try:
            say(answer)
        except ConfigError:
            # The heading of a very wide table, which only the page of the dataset would show
            log.warning("a pre-flight report is too large; it goes without the columns of the dataset")
            answer["facts"].get("dataset", {}).pop("columns", None)
            say(answer)
