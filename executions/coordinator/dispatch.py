"""Gang dispatch: all parties of an execution are claimed together or none is. Only this module enqueues."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db import connection as database
from django.db.models import Count, QuerySet
from django.utils import timezone
from redis import Redis
from redis.exceptions import WatchError
from rq import Queue
from rq.serializers import JSONSerializer

from controlplane.environment import environment
from controlplane.models import Party
from executions.coordinator.capacity import Capacity, find_capacity, free_ports, no_worker_message, reason_to_wait
from executions.coordinator.completion import completed_for, registered_types
from executions.coordinator.isolation import alone, reason_of
from executions.coordinator.preflight import CannotCheck, latest_of, request, verdict
from executions.coordinator.settle import hold, retry_or_fail, settle
from executions.coordinator.waiting import Waiting, WaitingList, reasons_noted
from executions.models import Execution, PartyRun, PortLease, Preflight
from executions.models.preflight import SILENT
from executions.patience import Patience
from executions.redis import call_off, drop_foreign
from executions.states import RunStatus, Status, transition
from workers.contract.errors import ERRORS, ConfigError
from workers.contract.jobs import TASK_FUNCTION, PartyJob

log = logging.getLogger(__name__)

#: Seconds by which RQ's own time limit exceeds ours: the coordinator stops a run at its limit before RQ does.
RQ_TIMEOUT_MARGIN = 60
#: Reasons to wait that this module compares.
CHECKING = "its parties' hosts are checking it"
PORTS_TAKEN = "ports that were checked for it were taken meanwhile"
#: How many executions one step fails at most: thousands may have waited for a party that is gone, and the coordinator
#: has other things to do.
MOST_GIVEN_UP = 50


class Dispatcher:
    """Chooses, claims and enqueues. Any number may run at once: a claim is one transaction."""

    #: After an execution was passed over for this long, its parties are held for it, so that it cannot starve.
    HOLD_AFTER = timedelta(seconds=30)
    #: How long the coordinators try to put the jobs of a claimed execution together.
    ENQUEUE_LIMIT = timedelta(seconds=20)

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        #: Monotonic time since which a party that executions wait for has had no live worker.
        self._absent_since: dict[str, float] = {}
        #: Time at which a party was last seen without a live worker.
        self._absent_at: dict[str, datetime] = {}
        #: Time at which Redis was last seen away, or full: what hosts told then did not arrive.
        self._redis_away_at: datetime | None = None
        self._queued = WaitingList()
        #: How long runs have been claimed and not enqueued, and how old the parties' signs of life about checks are.
        self._claimed, self._checks = Patience(), Patience()

    def step(self) -> bool:
        """Dispatch everything that fits now. Returns whether anything was dispatched. Raises RedisError."""
        repaired = self.enqueue_missing()
        waiting = self._queued.read()
        if not waiting:
            self._absent_since.clear()
            return repaired
        capacity = find_capacity(self.connection, {p for w in waiting for p in w.parties}, of_the_free=True)
        self._note_absence(capacity)
        held: set[str] = set()
        full = {party for party, found in capacity.items() if found.free <= 0}
        dispatched, hold_after = False, self.HOLD_AFTER.total_seconds()
        left: list[tuple[Waiting, list[str], str]] = []
        for execution in waiting:
            lacking = [p for p in execution.parties if p in held or p in full]
            reason = "" if lacking else self._try(execution.pk, capacity)
            if not lacking and reason in ("", CHECKING):
                for party in execution.parties:
                    capacity[party].take()  # also during its checks: what comes behind it does not fit any more
                    if capacity[party].free <= 0:
                        full.add(party)
                if not reason:
                    dispatched |= self.enqueue_missing()  # at once: its parties wait for it
                    continue
            # Of executions that share a party only the first holds its parties: the other parties can work meanwhile
            if held.isdisjoint(execution.parties) and execution.queued.whole_seconds > hold_after:
                held.update(execution.parties)
            left.append((execution, lacking, reason))
        self._note_left(left, capacity)
        return dispatched or repaired

    def _note_left(self, left: list[tuple[Waiting, list[str], str]], capacity: Mapping[str, Capacity]) -> None:
        """Note why executions wait, or fail those that waited for too long. ``left``: each with the parties that lack
        something, or if none does the reason why it waits."""
        noted = reasons_noted()
        # Most lack the same few parties
        said: dict[tuple[str, ...], str] = {}
        reasons: dict[UUID, str] = {}
        now, grace = time.monotonic(), environment.worker_grace_seconds
        gone = {party for party, since in self._absent_since.items() if now - since >= grace}
        given_up = 0
        for execution, lacking, reason in left:
            if lacking:
                reason = said.get(key := tuple(lacking)) or said.setdefault(key, reason_to_wait(lacking, capacity))
            is_late = execution.is_late or not gone.isdisjoint(lacking)
            if is_late and given_up < MOST_GIVEN_UP and self._give_up(execution, lacking, capacity, reason):
                given_up += 1
            elif noted.get(execution.pk, reason) != reason:
                reasons[execution.pk] = reason
        _note_reasons(reasons)

    def enqueue_missing(self) -> bool:
        """Enqueue the jobs of claimed runs that are not known to be in Redis: new ones, and those whose coordinator
        died between the claim's commit and the enqueuing. Raises RedisError."""
        missing = list(self._unsent().select_related("execution", "party").order_by("execution", "party"))
        gangs: dict[tuple[Any, int], list[PartyRun]] = {}
        for run in missing:
            gangs.setdefault((run.execution_id, run.attempt), []).append(run)
        self._claimed.look({run.pk: run.dispatched_at for run in missing})
        did = False
        for runs in gangs.values():
            what = f"execution {runs[0].execution_id}, attempt {runs[0].attempt}: its jobs cannot be put together"
            with alone(what) as fault:
                self._enqueue(runs[0].execution, runs[0].attempt)
            did |= not fault.error or self._not_enqueued(runs, fault.error)
        return did

    def _not_enqueued(self, runs: list[PartyRun], error: Exception) -> bool:
        """Show why an execution's jobs cannot be put together; end the attempt if no coordinator can do it for a while:
        another one may have the keys that this one lacks. Returns whether it was ended."""
        execution, reason = runs[0].execution, f"its jobs cannot be put together: {reason_of(error)}"
        if not self._claimed.is_over(runs[0].pk, runs[0].dispatched_at, self.ENQUEUE_LIMIT):
            Execution.objects.filter(pk=execution.pk).exclude(waiting_for=reason[:500]).update(waiting_for=reason[:500])
            return False
        with transaction.atomic():
            hold([execution.pk])
            kind = error_type if (error_type := type(error).__name__) in ERRORS else "AlgorithmError"
            self._unsent().filter(pk__in=[r.pk for r in runs]).update(
                error=reason[:4000], error_type=kind, stop_requested_at=timezone.now()
            )
            settle(execution.pk)
        return True

    def _note_absence(self, capacity: Mapping[str, Capacity]) -> None:
        now = time.monotonic()
        self._absent_since = {p: self._absent_since.get(p, now) for p, found in capacity.items() if not found.alive}
        self._absent_at |= dict.fromkeys(self._absent_since, timezone.now())

    def _give_up(self, waiting: Waiting, lacking: list[str], capacity: Mapping[str, Capacity], reason: str) -> bool:
        """Fail an execution that has waited for too long, or for a party that has been without a worker.

        A missing worker counts only before the first try: a party that had a worker is expected to get another one.
        """
        now = time.monotonic()
        absent = [p for p in lacking if not capacity[p].alive]
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
            return "another coordinator took it"
        preflight = latest_of(execution)
        if preflight:
            preflight.patience = self._checks
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
            ports = {part.party.name: part.ports for part in preflight.parties}
            reason = self._claim(execution, ports, capacity)
            if reason != PORTS_TAKEN:
                return reason
        try:
            request(self.connection, execution.documents, execution=execution)
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
        """Claim a slot and these ports at every party and set DISPATCHED, all or nothing. Returns why not; empty if
        claimed."""
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
                busy = dict(
                    PartyRun.objects.filter(party__in=parties.values(), released_at=None)
                    .values_list("party__name")
                    .annotate(Count("pk"))
                    .order_by()
                )
                if full := [p for p in parties if busy.get(p, 0) >= capacity[p].alive]:
                    return f"all workers of {', '.join(full)} are busy"
                if any(not {*ports[name]} <= {*free_ports(party)} for name, party in parties.items()):
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
                    return "another coordinator took it"
                for name, party in parties.items():
                    run = PartyRun.objects.create(
                        execution=execution,
                        party=party,
                        attempt=attempt,
                        job_id=f"{name}-{execution.pk}-{attempt}",
                        ports=ports[name],
                        dispatched_at=now,
                    )
                    PortLease.objects.bulk_create(PortLease(party=party, port=p, run=run) for p in ports[name])
        except IntegrityError:
            return PORTS_TAKEN
        return ""

    def _enqueue(self, execution: Execution, attempt: int) -> None:
        """Put the jobs of one attempt into the parties' queues in one MULTI, unless they are already there."""
        runs = list(execution.runs.filter(attempt=attempt).select_related("party"))
        endpoints = {r.party.name: [f"{r.party.address}:{port}" for port in r.ports] for r in runs}
        order = {p: i for i, p in enumerate(execution.parties)}
        endpoints = dict(sorted(endpoints.items(), key=lambda item: order[item[0]]))
        job_name, types = f"{execution.pk}-{attempt}", registered_types(execution.documents)
        jobs = [
            PartyJob.create(
                TASK_FUNCTION,
                kwargs={
                    "task_request_id": str(execution.pk),
                    **completed_for(run.party, execution.documents, job_name, endpoints, types),
                },
                id=run.job_id,
                origin=run.party.name,
                connection=self.connection,
                serializer=JSONSerializer,
                timeout=execution.run_limit_seconds + RQ_TIMEOUT_MARGIN,
                result_ttl=600,
                failure_ttl=3600,
                description=f"{execution.task_type} {execution.pk}, attempt {attempt}",
            )
            for run in runs
            if run.enqueued_at is None
        ]
        self._add(jobs)
        self._note_enqueued(runs)

    def _add(self, jobs: list[PartyJob]) -> None:
        """Put those jobs into their queues that are still wanted and not in Redis yet."""
        # Before the MULTI: a command that fails in it does not undo the others
        drop_foreign(self.connection, [f"rq:queue:{job.origin}" for job in jobs], "list")
        with self.connection.pipeline() as pipeline:
            while jobs:
                try:
                    # Two coordinators may repair the same attempt: if both saw no job, only one adds it and the other
                    # looks again
                    pipeline.watch(*(job.key for job in jobs))
                    # After WATCH: whoever ends a run from here on also touches its job, and then the MULTI fails
                    wanted = set(
                        self._unsent().filter(job_id__in=[j.id for j in jobs]).values_list("job_id", flat=True)
                    )
                    jobs = [job for job in jobs if job.id in wanted and not pipeline.exists(job.key)]
                    pipeline.multi()
                    for job in jobs:
                        queue = Queue(
                            job.origin, connection=self.connection, serializer=JSONSerializer, job_class=PartyJob
                        )
                        queue.enqueue_job(job, pipeline=pipeline)
                    pipeline.execute()
                    break
                except WatchError:
                    continue

    def _unsent(self) -> QuerySet[PartyRun]:
        """Return the runs whose jobs are wanted and not known to be in Redis."""
        return PartyRun.objects.filter(
            status=RunStatus.DISPATCHED, enqueued_at=None, released_at=None, stop_requested_at=None
        )

    def _note_enqueued(self, runs: list[PartyRun]) -> None:
        """Note that the jobs are in Redis. If the coordinator dies before this, the database does not know of the jobs:
        recovery therefore looks into Redis before it ends such a run."""
        with transaction.atomic():
            hold({r.execution_id for r in runs})
            PartyRun.objects.filter(pk__in=[r.pk for r in runs], enqueued_at=None).update(enqueued_at=timezone.now())


def _note_reasons(reasons: Mapping[UUID, str]) -> None:
    """Store why executions wait, for those that still wait."""
    if not reasons:
        return
    # One prepared statement: for thousands of reasons the ORM takes seconds
    key = Execution._meta.pk
    rows = [(reason, key.get_db_prep_value(pk, database), Status.QUEUED.value) for pk, reason in reasons.items()]
    with transaction.atomic(), database.cursor() as cursor:
        table = database.ops.quote_name(Execution._meta.db_table)
        cursor.executemany(f"UPDATE {table} SET waiting_for = %s WHERE id = %s AND status = %s", rows)  # noqa: S608
