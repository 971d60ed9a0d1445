"""Requests pre-flight checks from the parties' hosts, and judges their answers."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django.utils import timezone
from redis import Redis
from redis.exceptions import RedisError

from controlplane.models import Party
from executions.coordinator.capacity import Capacity, find_capacity, free_ports
from executions.coordinator.completion import completed_for, ports_needed, registered_types
from executions.coordinator.isolation import alone
from executions.coordinator.key import own_key
from executions.models import Execution, PartyCheck, Preflight
from executions.patience import Patience
from executions.redis import drop_foreign
from executions.states import Status
from workers.contract.errors import ConfigError
from workers.contract.keys import ports_wanted, requests_of, wanted
from workers.contract.orders import PORTS_WANTED, PREFLIGHT, signed_order
from workers.contract.reports import WANTED_SECONDS

#: How many requests one party's list keeps.
REQUESTS_KEPT = 100
#: Seconds until a request expires: longer than workers take to look for one.
WANTED_PORTS_SECONDS = 4


class CannotCheck(Exception):
    """The checks cannot be requested now; the message says why."""


def request(
    connection: Redis,
    execution: Execution,
    *,
    capacity: Mapping[str, Capacity] | None = None,
    is_ahead: bool = False,
) -> Preflight:
    """Request checks of an execution from all its parties at once; ``capacity``: theirs, if it is known already. Raises
    CannotCheck, RedisError, or ConfigError if a secret can no longer be decrypted.

    ``is_ahead``: its turn has not come, and no live session is ended for its ports.
    """
    places = _Places.choose(connection, execution.documents, capacity, wants_ports=not is_ahead)
    with transaction.atomic():
        preflight = Preflight.objects.create(
            execution=execution, requested_at=after_earlier_checks(execution), is_ahead=is_ahead
        )
        places.note(preflight)
    # After the commit, as a host may answer before this returns
    try:
        _send(connection, preflight, execution.documents, places)
    except (RedisError, OSError, ConfigError):
        preflight.delete()
        raise
    return preflight


def send_asked(connection: Redis) -> bool:
    """Request the checks that people and services have asked for: only the coordinator can sign a request. Returns
    whether there were any. Raises RedisError; they are then still to be requested."""
    did = False
    for preflight in Preflight.objects.filter(documents__isnull=False).order_by("requested_at"):
        with alone(f"{preflight}") as fault:
            did |= _send_one(connection, preflight)
        if fault.error:
            _refuse(preflight, f"the control plane could not request them: {fault.reason}")
    return did


def _send_one(connection: Redis, preflight: Preflight) -> bool:
    documents = preflight.documents or {}
    try:
        places = _Places.choose(connection, documents)
        with transaction.atomic():
            if not Preflight.objects.filter(pk=preflight.pk, documents__isnull=False).update(
                documents=None, requested_at=timezone.now()
            ):
                return False  # another coordinator does it
            places.note(preflight)
        try:
            _send(connection, preflight, documents, places)
        except (RedisError, OSError):
            preflight.save()  # as it was
            raise
    except (CannotCheck, ConfigError) as error:
        _refuse(preflight, str(error))
    return True


def _refuse(preflight: Preflight, reason: str) -> None:
    Preflight.objects.filter(pk=preflight.pk).update(documents=None, unasked_because=reason[:500])


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the parties of a round of checks would listen."""

    parties: dict[str, Party]
    ports: dict[str, list[int]]

    @classmethod
    def choose(
        cls,
        connection: Redis,
        documents: Mapping[str, Any],
        capacity: Mapping[str, Capacity] | None = None,
        *,
        wants_ports: bool = True,
    ) -> _Places:
        """Raises CannotCheck or RedisError."""
        names: list[str] = documents["sf_init_config"]["parties"]
        parties = {p.name: p for p in Party.objects.filter(name__in=names)}
        if missing := [name for name in names if name not in parties]:
            raise CannotCheck(f"{', '.join(missing)}: no longer registered")
        needed = ports_needed(documents)
        ports: dict[str, list[int]] = {}
        looked_at = _ports_looked_at(parties.values())
        capacity = capacity or find_capacity(connection, set(names))
        unleased = free_ports(parties.values())
        for party in names:
            free = unleased[party]
            if len(free) < needed:
                first, last = parties[party].port_first, parties[party].port_last
                raise CannotCheck(f"all ports of {party} ({first}-{last}) are leased")
            free = [port for port in free if port not in capacity[party].held]
            if len(free) < needed:
                if wants_ports:
                    wish = signed_order(own_key(), PORTS_WANTED, party, str(uuid4()), {})
                    connection.set(ports_wanted(party), wish, ex=WANTED_PORTS_SECONDS, nx=True)
                raise CannotCheck(
                    f"live sessions hold the ports of {party} that nobody has leased; they are being ended"
                )
            # Ports that another execution is about to claim are left to it, if there are others
            untouched = [port for port in free if port not in looked_at.get(party, ())]
            # Chosen at random: if something else occupies a port, the next checks most likely use others
            ports[party] = random.sample(untouched if len(untouched) >= needed else free, needed)
        return cls(parties, ports)

    def note(self, preflight: Preflight) -> None:
        """Store them in the parties' parts of these checks, which are there if somebody has asked for them."""
        PartyCheck.objects.bulk_create(
            [
                PartyCheck(preflight=preflight, party=self.parties[party], ports=found)
                for party, found in self.ports.items()
            ],
            update_conflicts=True,
            unique_fields=["preflight", "party"],
            update_fields=["ports", "heard_at"],
        )

    def endpoints(self) -> dict[str, list[str]]:
        return {
            party: [f"{self.parties[party].address}:{port}" for port in found] for party, found in self.ports.items()
        }


def _ports_looked_at(parties: Iterable[Party]) -> dict[str, set[int]]:
    """Return, by party, the ports of checks that may still lead to a dispatch."""
    now = timezone.now()
    # By the sign of life of any of its parties: one may be long done while another's table takes minutes
    under_way = Preflight.objects.filter(
        requested_at__gt=now - Preflight.LONGEST, checks__heard_at__gt=now - Preflight.SILENCE - Preflight.FRESH
    )
    # In two steps: databases would rather look through all that these parties ever checked
    checks = PartyCheck.objects.filter(preflight__in=list(under_way.distinct()), party__in=list(parties))
    found: dict[str, set[int]] = {}
    for party, ports in checks.values_list("party__name", "ports"):
        found.setdefault(party, set()).update(ports)
    return found


def _send(connection: Redis, preflight: Preflight, documents: Mapping[str, Any], places: _Places) -> None:
    sources, name = documents["task_config"]["data_sources"], str(preflight.pk)
    registered, endpoints = registered_types(documents), places.endpoints()
    drop_foreign(connection, [requests_of(party) for party in places.ports], "list")
    with connection.pipeline(transaction=True) as pipeline:
        pipeline.set(wanted(name), 1, ex=WANTED_SECONDS)
        for party, registration in places.parties.items():
            content = {
                "documents": completed_for(registration, documents, f"{name}-1", endpoints, registered),
                "columns": registered.get(party, {}).get(sources.get(party, "")),
                # For an approval, which counts executions; None of checks that lead to none
                "execution": str(preflight.execution_id) if preflight.execution_id else None,
            }
            pipeline.rpush(requests_of(party), signed_order(own_key(), PREFLIGHT, party, name, content))
            pipeline.ltrim(requests_of(party), -REQUESTS_KEPT, -1)
            # A request that nobody takes expires; it is made again if it still matters
            pipeline.expire(requests_of(party), WANTED_SECONDS)
        pipeline.execute()


def latest_of(execution: Execution) -> Preflight | None:
    """Return the newest checks since the execution was queued; None if there were none."""
    return execution.preflights.filter(requested_at__gte=execution.queued_at).order_by("-requested_at").first()


def with_parts(rounds: QuerySet[Preflight]) -> list[Preflight]:
    """Return rounds of checks with each party's part. Takes two queries."""
    checks = Prefetch("checks", PartyCheck.objects.select_related("party").order_by("pk"))
    found = list(rounds.prefetch_related(checks))
    for preflight in found:
        preflight.parties = list(preflight.checks.all())
    return found


def still_checking(executions: Collection[UUID], patience: Patience) -> set[UUID]:
    """Return those executions that are still queued, and whose hosts have not answered yet. Takes two queries."""
    if not executions:
        return set()
    rounds = Preflight.objects.filter(execution__in=executions, execution__status=Status.QUEUED)
    newest = {preflight.execution_id: preflight for preflight in with_parts(rounds.order_by("requested_at"))}
    for preflight in newest.values():
        preflight.patience = patience
    return {pk for pk, preflight in newest.items() if pk and preflight.state == "checking"}


def after_earlier_checks(execution: Execution) -> datetime:
    """Return a time for what comes next: now, but after all checks of this execution, and not before it was queued.

    By these times the checks since the last queueing are told from those before. If the clock was put back meanwhile,
    checks that failed would otherwise count for the next try as well, or new ones for none.
    """
    latest = execution.preflights.order_by("-requested_at").values_list("requested_at", flat=True).first()
    after = [latest + timedelta(microseconds=1)] if latest else []
    return max(timezone.now(), execution.queued_at, *after)


def verdict(preflight: Preflight) -> dict[str, str]:
    """Return the error fields of an execution whose checks failed."""
    cause, *others = preflight.problems
    more = f" ({len(others)} more: see the pre-flight checks)" if others else ""
    return {
        "error": cause.error + more,
        "error_type": cause.error_type,
        "error_party": cause.party,
        "error_stage": "preflight",
    }
