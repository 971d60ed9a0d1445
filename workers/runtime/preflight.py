"""Pre-flight: what a party's own host says to a run before anyone starts it. Facts leave the host, never rows.

The control plane puts a request into the list ``preflight:<party>``. A worker's :class:`Desk` takes it and has
the waiting process, which has SecretFlow imported, do the checks; the report goes into the party's stream.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError

from workers.computing.context import Context
from workers.contract.catalogue import TABLE
from workers.contract.drift import drift
from workers.contract.errors import ConfigError, ResourceError, classify, contract_name
from workers.contract.events import shortened
from workers.contract.keys import wanted
from workers.contract.validation import Run
from workers.contract.wording import Text
from workers.host import known
from workers.host.approvals import Approvals, NotApproved, digest_of
from workers.host.gate import Gate
from workers.host.party import PartyHost
from workers.host.tables import seen_types
from workers.runtime import task_run
from workers.runtime.facts import Facts, question_of
from workers.runtime.meeting import MEETING_SECONDS, check_ports, meet_peers
from workers.runtime.resources import free_memory

log = logging.getLogger(__name__)


MIB = 2**20
#: What a run takes beside what was imported already; measured with PSI of a million rows (docs/secretflow.md).
MEMORY_BASE, MEMORY_PER_ROW = 256 * MIB, 512
#: Sorted keys, the intersection and the output, beside each other on the disk.
DISK_BASE, DISK_PER_BYTE = 64 * MIB, 3


def check(host: PartyHost, request: Mapping[str, Any], connection: Redis | None = None) -> dict[str, Any]:
    """Do all checks at this host. Never raises. ``connection`` tells whether they were called off.

    ``request``: ``preflight`` (its id), ``documents`` as this party would be sent them, and ``columns``, the
    registered schema of its dataset, if there is one; and ``known``, from the worker, what earlier checks found out.
    Returns ``checks``, a list of ``check`` with ``error`` and ``error_type`` where it failed, and ``facts``, JSON; and
    ``known``, what the worker is to remember, which is told to nobody else.
    """
    known.begin(request.get("known", {}))
    return _Checks(host, request, connection).of(host)


class _Checks:
    def __init__(self, host: PartyHost, request: Mapping[str, Any], connection: Redis | None) -> None:
        self.party, self.request, self.connection = host.name, request, connection
        self.named = [request.get("documents"), request.get("columns")]
        self.gate = Gate(host, self.named)
        self.known = Facts(request.get("known", {}))
        self.checks: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {"versions": versions(), "cpus": os.cpu_count()}

    def of(self, host: PartyHost) -> dict[str, Any]:
        # Tables that have to be converted are, into here
        with tempfile.TemporaryDirectory(dir=os.environ["TMPDIR"]) as directory, suppress(_Failed):
            self._run(host, Path(directory))
        return {"checks": self.checks, "facts": self.gate.scrubbed(self.facts), "known": self.known.used | known.used()}

    def _run(self, host: PartyHost, directory: Path) -> None:
        documents = self.request["documents"]
        with self._check("documents"):
            host = host.reload()
            self.gate = Gate(host, self.named)
            host.prepare_directories()
            run = task_run.accept(host, documents)
        with self._check("ports", vital=False):
            check_ports(host, run)
        if not self.checks[-1].get("error"):
            with self._check("peers", vital=False):
                name = f"preflight {self.request['preflight']}"
                met = meet_peers(host, run, documents, name, timeout=MEETING_SECONDS, given_up=self.given_up)
                self.facts["round_trips"] = {peer: round(took, 6) for peer, took in met.round_trips.items()}
            if self.checks[-1].get("error") and self.given_up():
                self.checks.pop()  # another party failed, and is why this one missed it
        with self._check("dataset"):
            if table := run.task.data_sources.get(host.name):
                self.facts["dataset"] = {"name": table}
            sources = task_run.sources_of(host, run)
            tables = {role: source for role, source in sources.items() if source.kind == TABLE}
            # Made where something is not known yet, as it may copy tables
            context = cache(lambda: task_run.context_of(host, run, directory))
            least = host.policy.min_group_rows
            question = ["tables", least, {role: source.name for role, source in tables.items()}, run.task.column_types]
            found = self.known.about(question, tables.values(), lambda: _described(host, tables, context()))
            if "" in tables:
                # What is registered is no news to the control plane
                own = found[""]
                self.facts["dataset"] |= host.published({"columns": own["seen"], "rows": own["rows"]})
                self._compare(tables[""].name, own["columns"])
            params = run.executor.parse_params(run.task.algorithm_params)
            if "" in sources and run.executor.lines_up(params, host.name):
                self.facts |= {"rows_line_up": True, "alignment": sources[""].alignment}
        with self._check("data", vital=False):
            question = ["data", question_of(run, host.name)]
            self.known.about(question, sources.values(), lambda: _validate(run, context()))
        rows = sum(table["rows"] for table in found.values())
        size = sum(found[role]["size"] if role in found else sources[role].path.stat().st_size for role in sources)
        with self._check("memory", vital=False):
            self._afford("memory", free_memory(), MEMORY_BASE + MEMORY_PER_ROW * rows + 2 * size)
        with self._check("disk", vital=False):
            needed = DISK_BASE + DISK_PER_BYTE * size
            self._afford("disk", shutil.disk_usage(host.output_dir).free, needed)
        # Last: people are asked for what can run
        if host.policy.approve == "ask" and not any(check.get("error") for check in self.checks):
            with self._check("approval"):
                if host.approvals:
                    self.facts["approval"] = self._approval(host.approvals, digest_of(host.name, run))

    def _approval(self, approvals: Approvals, digest: str) -> dict[str, str]:
        """Return whether people on this host have approved it; ask them if they have not. Raises ConfigError if they
        refused it."""
        if (refusal := approvals.refusal_of(digest)) is not None:
            raise ConfigError("{} refused to approve it{}", self.party, Text(f": {refusal}" if refusal else ""))
        execution = self.request.get("execution")
        if execution is None:  # somebody only looks whether it could run
            return {"digest": digest, "state": "needed"}
        try:
            approvals.take(digest, str(UUID(execution)))
        except NotApproved:
            approvals.ask(digest, execution, self.request["documents"])
            return {"digest": digest, "state": "asked"}
        return {"digest": digest, "state": "approved"}

    @contextmanager
    def _check(self, name: str, *, vital: bool = True) -> Iterator[None]:
        entry: dict[str, Any] = {"check": name}
        self.checks.append(entry)
        try:
            yield
        except Exception as error:
            failure = classify(error)
            told = self.gate.error(failure)
            if told != str(error):
                log.warning("pre-flight check %s failed", name, exc_info=error)
            entry |= {"error": shortened(told), "error_type": contract_name(failure)}
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
                "dataset {} is not as registered: {}; correct the table, or publish it again (manage.py "
                "publish_datasets), take the report over on the dataset's page, and adapt the task",
                dataset,
                Text(", ".join(wrong)),
            )

    def _afford(self, what: str, free: int, needed: int) -> None:
        self.facts[f"free_{what}"] = free
        if free < needed:
            raise ResourceError(
                "{} is short on this host: {:,} MiB free, the run needs about {:,}; free some, or wait until other "
                "runs have ended",
                Text(what),
                free // MIB,
                needed // MIB,
            )


class _Failed(Exception):
    """A check failed that the others build on."""


def _described(host: PartyHost, roles: Iterable[str], context: Context) -> dict[str, dict[str, Any]]:
    """Return of each table, by role, its ``columns``, those that are ``seen`` in it whatever is registered, how many
    ``rows`` it has, and its ``size`` in bytes as it is read. Raises ConfigError."""
    described = {}
    for role in roles:
        table = context.sources[role]
        found, seen = host.describe(table), seen_types(table.path, table.name)
        own = found["columns"] | {column: seen[column] for column in table.registered_types}
        described[role] = found | {"seen": own, "size": table.path.stat().st_size}
    return described


def _validate(run: Run, context: Context) -> None:
    """Raise what the executor has to say of this party's data."""
    executor = run.executor(context)
    executor.adapted(executor.validate_params(run.task.algorithm_params), run.devices)


def versions() -> dict[str, str]:
    """Return the versions of the packages that have to be the same at all parties."""
    found = {}
    for package in ("secretflow", "spu"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
