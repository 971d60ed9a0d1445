"""Requests pre-flight checks from the parties' hosts, and judges their answers."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Prefetch
from django.utils import timezone
from redis import Redis
from redis.exceptions import RedisError

from controlplane.models import Party
from executions.coordinator.capacity import Capacity, find_capacity, free_ports
from executions.coordinator.completion import completed_for, ports_needed, registered_types
from executions.models import Execution, PartyCheck, Preflight
from executions.patience import Patience
from executions.redis import drop_foreign
from executions.states import Status
from workers.contract.errors import ConfigError
from workers.contract.keys import ports_wanted, requests_of, wanted
from workers.contract.reports import WANTED_SECONDS

#: How many requests one party's list keeps.
REQUESTS_KEPT = 100
#: Seconds until a request expires: longer than workers take to look for one.
WANTED_PORTS_SECONDS = 4


class CannotCheck(Exception):
    """The checks cannot be requested now; the message says why."""


def request(
    connection: Redis,
    documents: Mapping[str, Any],
    *,
    execution: Execution | None = None,
    name: str = "",
    by: Any = None,
    capacity: Mapping[str, Capacity] | None = None,
) -> Preflight:
    """Request checks from all parties of valid documents at once; ``capacity``: theirs, if it is known already. Raises
    CannotCheck, RedisError, or ConfigError if a secret can no longer be decrypted."""
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
            connection.set(ports_wanted(party), 1, ex=WANTED_PORTS_SECONDS)
            raise CannotCheck(f"live sessions hold the ports of {party} that nobody has leased; they are being ended")
        # Ports that another execution is about to claim are left to it, if there are others
        untouched = [port for port in free if port not in looked_at.get(party, ())]
        # Chosen at random: if something else occupies a port, the next checks most likely use others
        ports[party] = random.sample(untouched if len(untouched) >= needed else free, needed)
    with transaction.atomic():
        requested_at = after_earlier_checks(execution) if execution else timezone.now()
        preflight = Preflight.objects.create(execution=execution, name=name, requested_by=by, requested_at=requested_at)
        PartyCheck.objects.bulk_create(
            PartyCheck(preflight=preflight, party=parties[party], ports=ports[party]) for party in names
        )
    # After the commit, as a host may answer before this returns
    try:
        _send(connection, preflight, documents, parties, ports)
    except (RedisError, OSError, ConfigError):
        preflight.delete()
        raise
    return preflight


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


def _send(
    connection: Redis,
    preflight: Preflight,
    documents: Mapping[str, Any],
    parties: Mapping[str, Party],
    ports: Mapping[str, list[int]],
) -> None:
    endpoints = {party: [f"{parties[party].address}:{port}" for port in found] for party, found in ports.items()}
    sources = documents["task_config"]["data_sources"]
    registered = registered_types(documents)
    drop_foreign(connection, [requests_of(party) for party in ports], "list")
    with connection.pipeline(transaction=True) as pipeline:
        pipeline.set(wanted(str(preflight.pk)), 1, ex=WANTED_SECONDS)
        for party in ports:
            message = {
                "preflight": str(preflight.pk),
                "documents": completed_for(parties[party], documents, f"{preflight.pk}-1", endpoints, registered),
                "columns": registered.get(party, {}).get(sources.get(party, "")),
            }
            pipeline.rpush(requests_of(party), json.dumps(message))
            pipeline.ltrim(requests_of(party), -REQUESTS_KEPT, -1)
            # A request that nobody takes expires; it is made again if it still matters
            pipeline.expire(requests_of(party), WANTED_SECONDS)
        pipeline.execute()


def latest_of(execution: Execution) -> Preflight | None:
    """Return the newest checks since the execution was queued; None if there were none."""
    return execution.preflights.filter(requested_at__gte=execution.queued_at).order_by("-requested_at").first()


def still_checking(executions: Collection[UUID], patience: Patience) -> set[UUID]:
    """Return those executions that are still queued, and whose hosts have not answered yet. Takes two queries."""
    if not executions:
        return set()
    checks = Prefetch("checks", PartyCheck.objects.select_related("party").order_by("pk"))
    rounds = Preflight.objects.filter(execution__in=executions, execution__status=Status.QUEUED)
    rounds = rounds.order_by("requested_at").prefetch_related(checks)
    for preflight in rounds:
        preflight.parties, preflight.patience = list(preflight.checks.all()), patience
    newest = {preflight.execution_id: preflight for preflight in rounds}
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
