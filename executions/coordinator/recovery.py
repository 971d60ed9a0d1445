"""Finds what does not end by itself: runs to be stopped, lost runs, runs over their time limit, retries that are due,
and runs whose job is gone because Redis came back empty.

Each step looks at the state and does one thing about it. Steps may be repeated.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ResponseError
from rq.command import send_command

from executions.coordinator.capacity import find_capacity, forgiving, oldest_unread
from executions.coordinator.deadlines import end_late
from executions.coordinator.isolation import alone
from executions.coordinator.pieces import forget_unfinished
from executions.coordinator.preflight import after_earlier_checks
from executions.coordinator.settle import LONGEST_DELAY, give_up, hold, settle, stop_at_work
from executions.models import Execution, PartyRun, PortLease
from executions.models.party_run import UNDECIDED
from executions.patience import Patience
from executions.redis import drop_foreign
from executions.states import ACTIVE, RUN_ENDED, RunStatus, Status, before, transition
from workers.contract.connection import refusal
from workers.contract.jobs import STOP_MARK, PartyJob

log = logging.getLogger(__name__)

#: The job is not in Redis.
GONE = "gone"
#: The worker that took the job shows no signs of life; its job died with it.
DEAD = "dead"
#: Times of a run since which it may have been as it is for too long.
LOOKED_AT = ("dispatched_at", "ended_at", "stop_requested_at")


class Recovery:
    #: A run counts as lost only after it has looked lost for this long: its last events, and after an outage of Redis
    #: also the workers' heartbeats (every two seconds), may still be on their way.
    GRACE_SECONDS = 4.0
    #: A dispatched job that no worker has taken for this long counts as lost.
    START_LIMIT = timedelta(seconds=30)
    #: The same limit once a live worker has the job: its process may have to import SecretFlow first.
    IMPORT_LIMIT = timedelta(seconds=120)
    #: A party that ended has this long to shut down before it is stopped.
    SHUTDOWN_LIMIT = timedelta(seconds=15)
    #: How long a worker that was told to stop a run has to report its end: the worker may hang, or may not want to stop
    #: it.
    STOP_LIMIT = timedelta(seconds=30)
    #: How long the result of a process that ended by itself may take to arrive: entries that a dead coordinator had
    #: read are taken over after some seconds, and the worker sends again what Redis lost.
    REPORT_SECONDS = 20.0
    #: How long a report may be behind entries of its party's stream that are not applied yet, in seconds: after Redis
    #: came back empty there may be thousands. A party that never stops sending is waited for no longer.
    UNREAD_SECONDS = 300.0
    #: How long the mark in the place of a job that must not begin lives: longer than a coordinator may take to add the
    #: job.
    MARK_SECONDS = 600

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        #: By run: what is wrong with it, and since which monotonic time.
        self._suspects: dict[int, tuple[str, float]] = {}
        #: How long executions have run, processes have been gone, and runs have been as they are.
        self._running, self._gone, self._patience = Patience(), Patience(), Patience()

    def step(self) -> bool:
        """Do every step once. Returns whether anything was done. Raises RedisError."""
        done = False
        for action in (
            self.enforce_time_limits,
            end_late,
            self.begin_cancelling,
            self.end_undecided,
            forget_unfinished,
            self.queue_due_retries,
            self.look_after_runs,
        ):
            with alone(f"recovery: {action.__name__}"):
                done |= action()
        return done

    def queue_due_retries(self) -> bool:
        """Move executions from RETRY to QUEUED once they are due and no process of the old attempt is left."""
        done = False
        # Nothing is due as late as that, unless the clock was put back meanwhile
        due = Q(due_at__lte=timezone.now()) | Q(due_at__gt=timezone.now() + LONGEST_DELAY)
        for execution in Execution.objects.filter(due, status=Status.RETRY):
            if not execution.runs.filter(released_at=None).exists():
                queued_at = after_earlier_checks(execution)
                done |= transition(execution, Status.QUEUED, why="retry is due", due_at=None, queued_at=queued_at)
        return done

    def begin_cancelling(self) -> bool:
        """Request the stop of all runs of executions that are being cancelled."""
        pending = PartyRun.objects.filter(
            execution__status=Status.CANCELLING, released_at=None, stop_requested_at=None
        ).exclude(status__in=RUN_ENDED)
        done = False
        for execution in {run.execution_id for run in pending.only("execution")}:
            with transaction.atomic():
                hold([execution])
                done |= bool(pending.filter(execution=execution).update(stop_requested_at=timezone.now()))
        return done

    def enforce_time_limits(self) -> bool:
        """Stop runs that take longer than their execution allows, whatever their process is doing."""
        done = False
        running = Execution.objects.filter(status__in=(Status.DISPATCHED, Status.RUNNING), started_at__isnull=False)
        fields = ("id", "status", "attempt", "run_limit_seconds", "started_at")
        begun = {e: e.started_at for e in running.only(*fields) if e.started_at}
        self._running.look({e.pk: since for e, since in begun.items()})
        for execution, since in begun.items():
            if self._running.is_over(execution.pk, since, timedelta(seconds=execution.run_limit_seconds)):
                done |= stop_at_work(execution, f"the run passed its time limit of {execution.run_limit_seconds} s")
        return done

    def end_undecided(self) -> bool:
        """End runs whose party reported that the process is gone, but whose verdict was lost.

        No other step looks at them: there is no process to stop and no job to miss.
        """
        undecided = PartyRun.objects.filter(UNDECIDED, execution__status__in=ACTIVE, attempt=F("execution__attempt"))
        done = False
        runs = list(undecided.select_related("party", "execution"))
        self._gone.look({run.pk: run.released_at for run in runs if run.released_at})
        for run in runs:
            with alone(f"party run {run.job_id}"):
                if run.error or run.stop_requested_at or run.execution.status == Status.CANCELLING:
                    done |= _decide(run, RunStatus.STOPPED)  # whatever its result was, it no longer counts
                elif run.released_at and self._gone.is_over(run.pk, run.released_at, self._report_limit):
                    name = run.party.name
                    error = f"{name} said that its process has ended, and what came of it never arrived"
                    done |= _decide(run, RunStatus.LOST, error)
        return done

    @property
    def _report_limit(self) -> timedelta:
        return timedelta(seconds=self.REPORT_SECONDS)

    def look_after_runs(self) -> bool:
        """Stop runs that are to be stopped, release runs that have ended, and find lost ones."""
        runs = list(PartyRun.objects.filter(released_at=None).select_related("party").defer("result"))
        done = False
        seen = {run.pk for run in runs}
        self._patience.look({(r.pk, what): since for r in runs for what in LOOKED_AT if (since := getattr(r, what))})
        self._suspects = {pk: found for pk, found in self._suspects.items() if pk in seen}
        capacity = find_capacity(self.connection, {run.party.name for run in runs})
        refused: ResponseError | None = None
        for run, (state, worker, waits) in zip(runs, self._job_states(runs), strict=True):
            try:
                with alone(f"party run {run.job_id}"):
                    done |= self._look_after(run, state, worker, waits, bool(capacity[run.party.name].alive))
            except ResponseError as error:
                if not refusal(error):
                    raise
                refused = error  # one run that cannot be stopped now must not keep the others from ending
        # Ended runs whose execution is not settled yet: a coordinator died in between
        for pk in (
            Execution.objects.filter(status__in=ACTIVE, runs__attempt=F("attempt"), runs__status__in=RUN_ENDED)
            .distinct()
            .values_list("pk", flat=True)
        ):
            settle(pk)
        if refused:
            raise refused
        return done

    def _look_after(self, run: PartyRun, state: str, worker: str, waits: bool, has_workers: bool) -> bool:
        if state == GONE and not run.enqueued_at:  # the dispatcher adds its job, unless it is to be stopped
            return bool(run.stop_requested_at) and self._end_unsent(run)
        if run.stop_requested_at or self._is_overdue(run):
            return self._stop(run, state, worker)
        if state == "queued":
            return self._check_begins(run, worker, waits, has_workers)
        return self._check_alive(run, state)

    def _is_overdue(self, run: PartyRun, more: timedelta = timedelta()) -> bool:
        return self._has_been_since(run, "ended_at", self.SHUTDOWN_LIMIT + more)

    def _ignores_its_stop(self, run: PartyRun) -> bool:
        return self._is_overdue(run, self.STOP_LIMIT) or self._has_been_since(run, "stop_requested_at", self.STOP_LIMIT)

    def _has_been_since(self, run: PartyRun, what: str, limit: timedelta) -> bool:
        """Return whether longer than the limit has passed since the time in this field, if there is one."""
        since = getattr(run, what)
        return since is not None and self._patience.is_over((run.pk, what), since, limit)

    def _job_states(self, runs: list[PartyRun]) -> list[tuple[str, str, bool]]:
        """Return RQ's status of each run's job, the worker that has it, and whether it still waits in the queue.

        The status is GONE if there is no job, DEAD if the worker that took it is gone. A party may have written the
        values: they may be anything.
        """
        with self.connection.pipeline(transaction=True) as pipeline:
            for run in runs:
                pipeline.hmget(PartyJob.key_for(run.job_id), "status", "worker_name")
                pipeline.lpos(f"rq:queue:{run.party.name}", run.job_id, maxlen=1000)
            answers = iter(forgiving(pipeline))
        found = [(next(answers) or (None, None), next(answers)) for _ in runs]
        names = [worker.decode(errors="replace") if worker else "" for (_, worker), _ in found]
        with self.connection.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.pttl(f"rq:worker:{name}")
                pipeline.hmget(f"rq:worker:{name}", "state", "current_job")
            answers = iter(forgiving(pipeline))
        lives = [(next(answers) or 0, next(answers) or (None, None)) for _ in names]
        states = []
        for run, ((status, _), place), name, (ttl, (does, job)) in zip(runs, found, names, lives, strict=True):
            state = status.decode(errors="replace") if status else GONE
            if state in ("started", "queued") and name and ttl <= 0:
                state = DEAD
            elif state == "started" and does == b"idle" and job != run.job_id.encode():
                # Redis was away as it ended, so that nobody could note it there
                state = "finished"
            states.append((state, name, place is not None))
        return states

    def _end_unsent(self, run: PartyRun) -> bool:
        """End a run that is to be stopped and whose job is not in Redis, unless the job has just arrived there."""
        key = PartyJob.key_for(run.job_id)
        drop_foreign(self.connection, [key], "hash")
        with self.connection.pipeline(transaction=True) as pipeline:
            pipeline.hget(key, "status")
            self._mark(key, pipeline)
            came, *_ = pipeline.execute()
        if not came:
            self._end(run, RunStatus.STOPPED)
        return True

    def _mark(self, key: str, pipeline: Pipeline) -> None:
        """Mark a job so that it never begins. A coordinator that is about to add the job finds the mark and does
        not."""
        pipeline.hset(key, STOP_MARK, 1)
        pipeline.expire(key, self.MARK_SECONDS)

    def _stop(self, run: PartyRun, state: str, worker: str) -> bool:
        if state == DEAD:
            # Its death may be why the others failed: it is then the first real cause
            return self._check_alive(run, state)
        if state in (GONE, "stopped", "failed", "finished", "canceled"):
            # Its last events, if any, are in the stream and are applied before the verdict. A process whose job was
            # deleted takes some seconds to notice.
            slow = state == "finished" or (state == GONE and self._ignores_its_stop(run))
            if self._has_been(run, state, self.GRACE_SECONDS if slow else 0.2):
                self._end(run, RunStatus.STOPPED)
                return True
            return False
        if state == "queued":
            key = PartyJob.key_for(run.job_id)
            drop_foreign(self.connection, [f"rq:queue:{run.party.name}"], "list")
            with self.connection.pipeline(transaction=True) as pipeline:
                self._mark(key, pipeline)
                pipeline.lrem(f"rq:queue:{run.party.name}", 0, run.job_id)
                *_, removed = pipeline.execute()
            if removed:
                with self.connection.pipeline(transaction=True) as pipeline:
                    pipeline.delete(key)
                    self._mark(key, pipeline)
                    pipeline.execute()
            # Not in the queue: a worker has taken it. The worker sees the mark, or is found to have started it, or is
            # dead (it is dead if it did not even write its name on the job; the mark then keeps others from starting
            # it)
            patience = self.IMPORT_LIMIT.total_seconds() if worker else self.GRACE_SECONDS
            if removed or self._has_been(run, state, patience):
                self._end(run, RunStatus.STOPPED)
                return True
        elif self._ignores_its_stop(run):
            # If its process lives, it ends itself once its job is gone
            self.connection.delete(PartyJob.key_for(run.job_id))
            return True
        # Not rq's send_stop_job_command, which reads the whole hash of a job: a party may have filled it with anything
        send_command(self.connection, worker, "stop-job", job_id=run.job_id)
        return True

    def _check_begins(self, run: PartyRun, worker: str, waits: bool, has_workers: bool) -> bool:
        """Check a run whose job no worker has begun yet. Returns whether it was given up."""
        party, limit = run.party.name, self.START_LIMIT if waits else self.IMPORT_LIMIT
        if not waits and not worker:
            # A worker takes only milliseconds from taking a job to writing its name on it
            if self._has_been(run, "in nobody's hands", self.GRACE_SECONDS):
                return give_up(run, f"the worker of {party} went away as it took the job")
        elif waits and not has_workers:
            if self._has_been(run, "no worker", self.GRACE_SECONDS):
                return give_up(run, f"the worker of {party} went away before it took the job")
        elif self._has_been_since(run, "dispatched_at", limit):
            return give_up(run, f"no worker of {party} began the job within {limit.total_seconds():g} s")
        else:
            self._suspects.pop(run.pk, None)
        return False

    def _check_alive(self, run: PartyRun, state: str) -> bool:
        """Check a run whose job has begun or is gone. Returns whether the run was ended or given up."""
        lost = {
            DEAD: f"the worker of {run.party.name} is gone, and its job with it",
            GONE: f"Redis lost the job of {run.party.name}",
        }
        if state in lost:
            if self._has_been(run, state, self.GRACE_SECONDS):
                self._end(run, RunStatus.LOST, lost[state])
                return True
        elif state in ("finished", "failed", "stopped", "canceled"):
            patience = self.REPORT_SECONDS if state == "finished" else self.GRACE_SECONDS
            if self._has_been(run, state, patience) and self._has_been(run, state, self._may_be_unread_for(run)):
                self._end(run, RunStatus.LOST, f"the job at {run.party.name} ended without a report")
                return True
        elif run.status == RunStatus.DISPATCHED and self._has_been_since(run, "dispatched_at", self.IMPORT_LIMIT):
            return give_up(run, f"the job at {run.party.name} said nothing of having begun")
        else:
            self._suspects.pop(run.pk, None)
        return False

    def _may_be_unread_for(self, run: PartyRun) -> float:
        """Return for how many seconds after its end a job's report may be among the entries that are not applied
        yet."""
        return min(self.UNREAD_SECONDS, oldest_unread(self.connection, run.party.name))

    def _has_been(self, run: PartyRun, state: str, seconds: float) -> bool:
        now = time.monotonic()
        known, since = self._suspects.get(run.pk, (state, now))
        if known != state:
            since = now
        self._suspects[run.pk] = (state, since)
        return now - since >= seconds

    def _end(self, run: PartyRun, status: RunStatus, error: str = "") -> None:
        """Release a run whose process is gone, and give it ``status`` if the party has not reported its end."""
        with transaction.atomic():
            hold([run.execution_id])
            if PartyRun.objects.filter(pk=run.pk, released_at=None).update(released_at=timezone.now()):
                _decide(run, status, error)
            if status == RunStatus.LOST:
                # A worker that was only out of reach finds its job gone when it is back, and stops it. This comes
                # before the commit: if Redis is away now, all of it is done again.
                self.connection.delete(PartyJob.key_for(run.job_id))
            PortLease.objects.filter(run=run).delete()
            settle(run.execution_id)


def _decide(run: PartyRun, status: RunStatus, error: str = "") -> bool:
    """Give a run its ``status``, and settle its execution. Returns False, and does nothing, if it has already ended."""
    fields: dict[str, Any] = {"status": status, "ended_at": timezone.now()}
    if error:
        fields |= {"error": error, "error_type": "NetworkError"}
    with transaction.atomic():
        hold([run.execution_id])
        if not PartyRun.objects.filter(pk=run.pk, status__in=before(status)).update(**fields):
            return False
        settle(run.execution_id)
    if error:
        log.warning("%s: %s", run.job_id, error)
    return True
