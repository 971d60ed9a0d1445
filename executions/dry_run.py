"""Dry runs: what would happen if documents were submitted now. Nothing is written, nothing is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from redis.exceptions import RedisError

from controlplane.models import Parties, Party
from controlplane.models.catalogue import DatabaseCatalogue
from executions.coordinator.capacity import find_capacity, free_ports, reason_to_wait
from executions.coordinator.completion import complete, ports_needed, registered_types
from executions.models import Execution
from executions.redis import redis_connection
from executions.states import Status
from workers.contract.connection import trouble
from workers.contract.problems import DocumentsInvalid, Problem
from workers.contract.secrets import masked
from workers.contract.validation import validate


@dataclass(frozen=True, slots=True)
class PartyDryRun:
    """What a dry run found at one party."""

    party: str
    #: Number of live workers; of those, how many could begin at once; number of runs that occupy a worker.
    workers: int
    ready: int
    busy: int
    ports_free: int
    #: Number of executions that wait for it and were submitted earlier.
    queued: int


@dataclass(frozen=True, slots=True)
class DryRun:
    """What would happen if the documents were submitted now."""

    problems: list[Problem] = field(default_factory=list)
    #: Reason why it would not start at once; empty if it would.
    waits_for: str = ""
    parties: list[PartyDryRun] = field(default_factory=list)
    #: Each party's documents as it would receive them, except for secrets, the job's name and the ports chosen.
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Return what would happen, in one line for people."""
        if self.problems:
            return f"would be refused: {len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        return f"would wait: {self.waits_for}" if self.waits_for else "would start at once"

    def as_dict(self) -> dict[str, Any]:
        return {
            "valid": not self.problems,
            "verdict": self.verdict,
            "problems": [p.as_dict() for p in self.problems],
            "waits_for": self.waits_for,
            "parties": [asdict(party) for party in self.parties],
            "documents": self.documents,
        }


def dry_run(documents: Mapping[str, Any], within: Parties = None) -> DryRun:
    """Return what would happen if ``documents`` were submitted now: their problems, or the parties as the dispatcher
    would find them. ``within``: the parties that may be named. Needs the database; if Redis is away, the result says
    so."""
    try:
        names = validate(documents, DatabaseCatalogue(within)).cluster.parties
    except DocumentsInvalid as error:
        return DryRun(problems=error.problems)
    parties = {p.name: p for p in Party.objects.filter(name__in=names)}
    wanted = ports_needed(documents)
    ports = free_ports(parties.values())
    endpoints = {name: [f"{parties[name].address}:{port}" for port in ports[name][:wanted]] for name in names}
    short = [name for name in names if len(ports[name]) < wanted]
    shown, types = masked(documents), registered_types(documents)
    sent = {} if short else {name: complete(shown, name, "<execution>-<attempt>", endpoints, types) for name in names}
    waiting = list(Execution.objects.filter(status=Status.QUEUED).values_list("parties", flat=True))
    try:
        capacity = find_capacity(redis_connection(), set(names))
    except (RedisError, OSError) as error:
        return DryRun(waits_for=trouble(error), documents=sent)
    by_party = [
        PartyDryRun(
            party=name,
            workers=capacity[name].alive,
            ready=capacity[name].ready,
            busy=capacity[name].busy,
            ports_free=len(ports[name]),
            queued=sum(name in wanted_by for wanted_by in waiting),
        )
        for name in names
    ]
    lacking = [name for name in names if capacity[name].free <= 0]
    reason = reason_to_wait(lacking, capacity) if lacking else ""
    if not reason and short:
        reason = f"all ports of {', '.join(short)} are leased"
    return DryRun(waits_for=reason, parties=by_party, documents=sent)
