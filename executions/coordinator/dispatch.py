"""Gang dispatch: all parties of an execution are claimed together or none is."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db import connection as database
from django.utils import timezone
from redis import Redis

from controlplane.environment import environment
from controlplane.models import Party
from executions.coordinator.ahead import Ahead
from executions.coordinator.approvals import wait_for_approvals
from executions.coordinator.capacity import (
    Capacity,
    find_capacity,
    free_ports,
    no_worker_message,
    reason_to_wait,
    running_at,
)
from executions.coordinator.enqueue import Enqueuer
from executions.coordinator.isolation import alone
from executions.coordinator.preflight import CannotCheck, latest_of, request, still_checking, verdict
from executions.coordinator.settle import retry_or_fail
from executions.coordinator.waiting import Waiting, WaitingList
from executions.models import Execution, PartyRun, PortLease, Preflight
from executions.models.preflight import SILENT
from executions.patience import Patience
from executions.redis import call_off
from executions.states import Status, transition
from workers.contract.errors import ConfigError
from workers.contract.run_name import RunName

log = logging.getLogger(__name__)

#: Reasons why it is not dispatched that this module compares.
NOT_QUEUED = "it is no longer queued, or another coordinator took it"
CHECKING = "its parties' hosts are checking it"
PORTS_TAKEN = "ports that were checked for it were taken meanwhile"
#: How many executions one step fails at most: thousands may have waited for a party that is gone, and the coordinator
#: has other things to do.
MOST_GIVEN_UP = 50


class Dispatcher:
    """Chooses, claims and enqueues. Any number may run at once: a claim is one transaction."""

    #: After an execution was passed over for this long, its parties are held for it, so that it cannot starve.
    HOLD_AFTER = timedelta(seconds=30)
    #: Seconds after which a step begins nothing more: many may fit at once, and events wait meanwhile.
    STEP_SECONDS = 0.2

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self.enqueuer = Enqueuer(connection)
        #: Monotonic time since which a party that executions wait for has had no live worker.
        self._absent_since: dict[str, float] = {}
        #: Time at which a party was last seen without a live worker.
        self._absent_at: dict[str, datetime] = {}
        #: Time at which Redis was last seen away, or full: what hosts told then did not arrive.
        self._redis_away_at: datetime | None = None
        self._queued = WaitingList()
        self._ahead = Ahead(connection)
        #: By party, as of the last step.
        self._capacity: dict[str, Capacity] = {}
        #: Executions whose hosts were checking them at the last step.
        self._checking: set[UUID] = set()
        #: How old the parties' signs of life about checks are.
        self._checks = Patience()

    def step(self) -> bool:
        """Dispatch what fits now, for as long as a step may take. Returns whether anything was done. Raises
        RedisError."""
        repaired = self.enqueuer.missing()
        waiting = self._queued.read()
        if not waiting:
            self._absent_since.clear()
            return repaired
        # Once a second everything is looked at and noted; in between, what may have changed
        known = None if self._queued.is_whole else self._capacity
        self._capacity = capacity = find_capacity(self.connection, self._queued.parties, known=known)
        self._note_absence(capacity)
        checking, self._checking = still_checking(self._checking, self._checks), set()
        held: set[str] = set()
        #: Parties that are full or held.
        taken = {party for party, found in capacity.items() if found.free <= 0}
        did = tried = False
        left: list[tuple[Waiting, list[str], str]] = []
        hold_after, end = self.HOLD_AFTER.total_seconds(), time.monotonic() + self.STEP_SECONDS
        for execution in waiting:
            parties = execution.parties
            if taken.isdisjoint(parties):
                is_checked = execution.pk in checking
                if not is_checked and tried and time.monotonic() > end:
                    did = True  # the next step comes at once, and begins with this one
                    break
                reason = CHECKING if is_checked else self._try(execution.pk, capacity)
                tried |= not is_checked
                if reason == CHECKING:
                    self._checking.add(execution.pk)
                if reason in ("", CHECKING):
                    for party in parties:
                        capacity[party].take()  # also during its checks: what comes behind it does not fit any more
                        if capacity[party].free <= 0:
                            taken.add(party)
                if reason in ("", NOT_QUEUED):
                    execution.is_gone = True
                    did |= not reason
                    continue
                left.append((execution, [], reason))
            elif self._queued.is_whole:
                left.append((execution, [party for party in parties if party in taken], ""))
            # Of executions that share a party only the first holds its parties: the other parties can work meanwhile
            if held.isdisjoint(parties) and execution.queued.whole_seconds > hold_after:
                held.update(parties)
                taken.update(parties)
        else:  # all had their turn
            self._ahead.check(waiting, capacity, self._checking)
        self._note_left(left, capacity)
        return did or repaired

    def _note_left(self, left: list[tuple[Waiting, list[str], str]], capacity: Mapping[str, Capacity]) -> None:
        """Note why executions wait, or fail those that waited for too long. ``left``: each with the parties that lack
        something, or if none does the reason why it waits."""
        # Most lack the same few parties
        said: dict[tuple[str, ...], str] = {}
        changed: list[Waiting] = []
        now, grace = time.monotonic(), environment.worker_grace_seconds
        gone = {p for p, since in self._absent_since.items() if now - since >= grace and not capacity[p].paused}
        given_up = 0
        for execution, lacking, reason in left:
            if lacking:
                reason = said.get(key := tuple(lacking)) or said.setdefault(key, reason_to_wait(lacking, capacity))
            is_late = execution.is_late or not gone.isdisjoint(lacking)
            if is_late and given_up < MOST_GIVEN_UP and self._give_up(execution, lacking, capacity, reason):
                execution.is_gone = True
                given_up += 1
            elif execution.waiting_for != reason:
                execution.waiting_for = reason
                changed.append(execution)
        _note_reasons(changed)

    def _note_absence(self, capacity: Mapping[str, Capacity]) -> None:
        now = time.monotonic()
        self._absent_since = {p: self._absent_since.get(p, now) for p, found in capacity.items() if not found.alive}
        self._absent_at |= dict.fromkeys(self._absent_since, timezone.now())

    def _give_up(self, waiting: Waiting, lacking: list[str], capacity: Mapping[str, Capacity], reason: str) -> bool:
        """Fail an execution that has waited for too long, or for a party that has been without a worker.

        A missing worker counts only before the first try: a party that had a worker is expected to get another one.
        """
        now = time.monotonic()
        # Of a party that is paused nobody expects a worker
        absent = [p for p in lacking if not capacity[p].alive and not capacity[p].paused]
        grace, is_first = environment.worker_grace_seconds, not (waiting.attempt or waiting.retries)
        waited = waiting.queued.seconds(timedelta(seconds=grace))
        gone = [p for p in absent if is_first and min(waited, now - self._absent_since[p]) >= grace]
        if not gone and not waiting.is_late:
            return False
        limit = f"was not dispatched within {waiting.dispatch_limit_seconds} s: {reason}"
        error = no_worker_message(gone) if gone else limit
        execution = Execution.objects.defer("documents").get(pk=waiting.pk)
        if execution.status == Status.QUEUED:
            transition(
                execution,
                Status.FAILURE,
                why=error,
                error=error,
                error_type="ResourceError",
                error_party=(gone or lacking or [""])[0],
                error_stage="dispatch",
            )
        return True

    def _try(self, pk: UUID, capacity: Mapping[str, Capacity]) -> str:
        """Begin it. What fails about it stops no other: the reason is returned, and it fails at its limit."""
        with alone(f"execution {pk} could not be dispatched") as fault:
            return self._begin(pk, capacity)
        return f"the control plane could not dispatch it: {fault.reason}"[:500]

    def _begin(self, pk: UUID, capacity: Mapping[str, Capacity]) -> str:
        """Have the parties' hosts check the execution, then claim it. Returns the reason why it waits; empty if it is
        claimed."""
        execution = Execution.objects.get(pk=pk)
        if execution.status != Status.QUEUED:
            return NOT_QUEUED
        preflight = latest_of(execution)
        if preflight:
            preflight.patience = self._checks
        if preflight and preflight.is_ahead and preflight.state == "failed":
            preflight = None  # perhaps for want of what the run before it had
        if preflight and self._went_unheard(preflight):
            preflight = None
        if preflight and preflight.state == "checking":
            return CHECKING
        if preflight and preflight.state == "failed":
            error = verdict(preflight)
            call_off(preflight.pk)
            retry_or_fail(execution, error["error_type"], f"{error['error_party']}: {error['error']}", error)
            return error["error"]
        if preflight and preflight.is_fresh:
            if wait_for_approvals(execution, preflight):
                return NOT_QUEUED
            ports = {part.party.name: part.ports for part in preflight.parties}
            reason = self._claim(execution, ports, capacity)
            if reason != PORTS_TAKEN:
                return reason
        try:
            request(self.connection, execution, capacity=capacity)
        except CannotCheck as error:
            return str(error)
        except ConfigError as error:
            fields = {"error": str(error), "error_type": "ConfigError", "error_stage": "dispatch"}
            transition(execution, Status.FAILURE, why=str(error), **fields)
            return str(error)
        return CHECKING

    def _went_unheard(self, preflight: Preflight) -> bool:
        """Return whether the checks failed only because parties did not answer that had no worker, or no Redis."""
        problems = preflight.problems if preflight.state == "failed" else []
        silent = [problem.party for problem in problems if problem.check == SILENT]
        if not silent or len(silent) < len(problems):
            return False
        asked = preflight.requested_at
        if self._redis_away_at and self._redis_away_at > asked:
            return True
        return all(party in self._absent_at and self._absent_at[party] > asked for party in silent)

    def note_redis_away(self) -> None:
        """Note that Redis is away or takes no writes."""
        self._redis_away_at = timezone.now()

    def _claim(self, execution: Execution, ports: Mapping[str, list[int]], capacity: Mapping[str, Capacity]) -> str:
        """Claim a slot and these ports at every party and set DISPATCHED, all or nothing; then enqueue the jobs.
        Returns why not; empty if claimed."""
        attempt = execution.attempt + 1
        try:
            with transaction.atomic():
                # Locked in one order, so that two dispatchers cannot wait for each other
                parties = {
                    p.name: p
                    for p in Party.objects.select_for_update(of=("self",), no_key=True)
                    .filter(name__in=execution.parties)
                    .order_by("pk")
                }
                if len(parties) < len(execution.parties):
                    return "one of its parties is no longer registered"
                busy = running_at(parties)
                if full := [p for p in parties if busy.get(p, 0) >= capacity[p].alive]:
                    return f"all workers of {', '.join(full)} are busy"
                free = free_ports(parties.values())
                if any(not {*ports[name]} <= {*free[name]} for name in parties):
                    return PORTS_TAKEN
                now = timezone.now()
                if not transition(
                    execution,
                    Status.DISPATCHED,
                    why=f"attempt {attempt}",
                    attempt=attempt,
                    waiting_for="",
                    dispatched_at=now,
                    started_at=None,
                    stage="",
                    progress=0,
                    error="",
                    error_type="",
                    error_party="",
                    error_stage="",
                ):
                    return NOT_QUEUED
                runs = PartyRun.objects.bulk_create(
                    PartyRun(
                        execution=execution,
                        party=party,
                        attempt=attempt,
                        job_id=RunName(str(execution.pk), attempt).job_of(name),
                        ports=ports[name],
                        dispatched_at=now,
                    )
                    for name, party in parties.items()
                )
                PortLease.objects.bulk_create(
                    PortLease(party=run.party, port=port, run=run) for run in runs for port in run.ports
                )
        except IntegrityError:
            return PORTS_TAKEN
        self.enqueuer.put(execution, runs)  # at once: its parties wait for it
        return ""


def _note_reasons(changed: list[Waiting]) -> None:
    """Store why executions wait, for those that still wait."""
    if not changed:
        return
    # One prepared statement: for thousands of reasons the ORM takes seconds
    key = Execution._meta.pk
    rows = [(w.waiting_for, key.get_db_prep_value(w.pk, database), Status.QUEUED.value) for w in changed]
    with transaction.atomic(), database.cursor() as cursor:
        table = database.ops.quote_name(Execution._meta.db_table)
        cursor.executemany(f"UPDATE {table} SET waiting_for = %s WHERE id = %s AND status = %s", rows)  # noqa: S608
