"""What would happen if these documents were submitted now. Nothing is written, nothing is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from redis.exceptions import RedisError

from controlplane.models import Party
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
class PartyOutlook:
    """One party, as it is now."""

    party: str
    #: Live workers; of those, how many could begin at once; runs that occupy one.
    workers: int
    ready: int
    busy: int
    ports_free: int
    #: Executions that wait for it and were submitted earlier.
    queued: int


@dataclass(frozen=True, slots=True)
class Outlook:
    problems: list[Problem] = field(default_factory=list)
    #: Why it would not start at once; empty if it would.
    waits_for: str = ""
    parties: list[PartyOutlook] = field(default_factory=list)
    #: Party to the documents exactly as it would be sent them, but for secrets, the job's name and the ports chosen.
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """One line for people."""
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


def look_ahead(documents: Mapping[str, Any]) -> Outlook:
    """Validate, and look at the parties as the dispatcher would. Needs the database; does without Redis."""
    try:
        names = validate(documents, DatabaseCatalogue()).cluster.parties
    except DocumentsInvalid as error:
        return Outlook(problems=error.problems)
    parties = {p.name: p for p in Party.objects.filter(name__in=names)}
    wanted = ports_needed(documents)
    ports = {name: free_ports(parties[name]) for name in names}
    endpoints = {name: [f"{parties[name].address}:{port}" for port in ports[name][:wanted]] for name in names}
    short = [name for name in names if len(ports[name]) < wanted]
    shown, types = masked(documents), registered_types(documents)
    sent = {} if short else {name: complete(shown, name, "<execution>-<attempt>", endpoints, types) for name in names}
    waiting = list(Execution.objects.filter(status=Status.QUEUED).values_list("parties", flat=True))
    try:
        capacity = find_capacity(redis_connection(), set(names))
    except (RedisError, OSError) as error:
        return Outlook(waits_for=trouble(error), documents=sent)
    outlooks = [
        PartyOutlook(
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
    return Outlook(waits_for=reason, parties=outlooks, documents=sent)
