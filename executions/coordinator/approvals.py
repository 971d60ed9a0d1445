"""Keeps executions waiting until people at the parties have approved them, and takes note of what they decide.

The parties' workers enforce approvals by themselves. Here an execution only waits, so that no attempt is made in vain.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone
from redis import Redis

from controlplane.audit.record import record
from executions.coordinator.isolation import alone
from executions.coordinator.preflight import CannotCheck, request, with_parts
from executions.coordinator.settle import hold
from executions.models import Approval, ApprovalState, Execution, Preflight
from executions.states import Status, transition
from workers.contract.errors import ConfigError

#: Time until hosts are asked again, which doubles each time, and the longest.
LOOK_AGAIN, SELDOM = timedelta(seconds=20), timedelta(hours=1)


def wait_for_approvals(execution: Execution, preflight: Preflight) -> str:
    """Have an execution wait if hosts that checked it said that they need an approval. Returns the reason; empty if no
    host needs one."""
    needed = {part.party: digest for part in preflight.parties if (digest := _digest_needed(part.facts))}
    if not needed:
        return ""
    with transaction.atomic():
        hold([execution.pk])
        for party, digest in needed.items():
            Approval.objects.update_or_create(
                execution=execution,
                party=party,
                defaults={
                    "digest": digest,
                    "state": ApprovalState.ASKED,
                    "asked_at": timezone.now(),
                    "decided_at": None,
                    "decided_by": "",
                    "reason": "",
                },
            )
        reason = "; ".join(
            f"{party.name} has to approve it: `manage.py party approve {digest[:12]}` on its host"
            for party, digest in needed.items()
        )
        transition(execution, Status.AWAITING_APPROVAL, why=reason, waiting_for=reason[:500])
    return reason


def look_again(connection: Redis) -> bool:
    """Ask the hosts of waiting executions again, seldom and ever more seldom: a decision that was made before the
    execution waited, or while Redis was away, would otherwise never be heard of. Returns whether anything was done.
    Raises RedisError."""
    # Three queries for all of them, of which there may be many: they wait for people
    checks = Preflight.objects.filter(execution=OuterRef("pk"), requested_at__gte=OuterRef("queued_at"))
    asked = Approval.objects.filter(execution=OuterRef("pk")).order_by("-asked_at")
    waiting = (
        Execution.objects.filter(status=Status.AWAITING_APPROVAL)
        .defer("documents")
        .annotate(
            latest=Subquery(checks.order_by("-requested_at").values("pk")[:1]),
            waits_since=Coalesce(Subquery(asked.values("asked_at")[:1]), F("queued_at")),
        )
        .order_by("queued_at")
    )
    latest = {found.pk: found for found in with_parts(Preflight.objects.filter(pk__in=[e.latest for e in waiting]))}
    did = False
    for execution in waiting:
        with alone(f"execution {execution.pk}"):
            did |= _look_again(connection, execution, latest.get(execution.latest), execution.waits_since)
    return did


def _look_again(connection: Redis, execution: Execution, latest: Preflight | None, waits_since: datetime) -> bool:
    if latest and latest.requested_at > waits_since:
        if latest.state == "checking":
            return False
        if latest.is_complete and not any(_digest_needed(part.facts) for part in latest.parties):
            # Approved, or something else is wrong now: both come out as for any other queued execution
            return transition(execution, Status.QUEUED, why="checked again", waiting_for="", queued_at=timezone.now())
    asked_at = latest.requested_at if latest else waits_since
    pause = min(max(LOOK_AGAIN, asked_at - waits_since), SELDOM)
    if timezone.now() - asked_at < pause:
        return False
    try:
        request(connection, execution)
    except (CannotCheck, ConfigError):  # no port is free, say: later
        return False
    return True


def _digest_needed(facts: Any) -> str:
    """Return the digest that a host wants approved. The host wrote the facts: they may be anything."""
    asked = facts.get("approval") if isinstance(facts, dict) else None
    digest = asked.get("digest") if isinstance(asked, dict) and asked.get("state") == "asked" else None
    return digest if isinstance(digest, str) and len(digest) == 64 and digest.isalnum() else ""


def note_decision(
    party: str, digest: str, executions: Collection[UUID], approved: bool, by: str, reason: str, terms: str = ""
) -> bool:
    """Take note of what people at a party decided about these executions: those that wait for it alone go on, or fail.
    ``terms``: those of an approval. Returns whether any of them waited for it."""
    action, details = "approve" if approved else "refuse", reason or terms
    asked = Approval.objects.filter(
        party__name=party, digest=digest, state=ApprovalState.ASKED, execution__in=executions
    )
    waiting = sorted(asked.values_list("execution", flat=True))
    for pk in waiting:
        with transaction.atomic():
            hold([pk])
            state = ApprovalState.APPROVED if approved else ApprovalState.REFUSED
            now = timezone.now()
            if not asked.filter(execution=pk).update(state=state, decided_at=now, decided_by=by, reason=reason):
                continue
            record(action, f"execution {pk}", actor=f"{by} at {party}", details=details)
            execution = Execution.objects.defer("documents").get(pk=pk)
            if execution.status != Status.AWAITING_APPROVAL:
                continue
            if not approved:
                error = f"{party} refused to approve it" + (f": {reason}" if reason else "")
                fields = {"error": error, "error_type": ConfigError.__name__, "error_party": party}
                transition(execution, Status.FAILURE, why=error, error_stage="approval", **fields)
            elif not Approval.objects.filter(execution=pk, state=ApprovalState.ASKED).exists():
                transition(execution, Status.QUEUED, why=f"approved by {party}", waiting_for="", queued_at=now)
    if not waiting and Approval.objects.filter(party__name=party, digest=digest).exists():
        # It holds for what comes, or takes back what held
        subject = f"request {digest[:8]} of {party}"
        record(action, subject, actor=f"{by} at {party}", details=details)
    return bool(waiting)
