"""Any interleaving of submissions, steps, finishes, failures, deaths, cancellations and crashes keeps the promises.

A hypothesis state machine against a real database and a real Valkey. The parties' workers are simulated by
what they leave in Redis and the events they publish; the coordinator is the real one.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis import Redis

from controlplane.environment import environment
from controlplane.models import Party
from executions.coordinator import settle
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.enqueue import Enqueuer
from executions.coordinator.listener import Listener
from executions.coordinator.recovery import Recovery
from executions.models import Execution, NotCancellable, PartyRun, PortLease
from executions.states import ENDED, RUN_ENDED, TRANSITIONS, Status
from tests.composed import documents
from tests.keys import stream, voice
from tests.simulated import add_worker, begin_job, dispatch, leave_job
from workers.contract.events import FAILURE, RUNNING, SUCCESS
from workers.contract.run_name import RunName
from workers.runtime.publisher import Publisher

PARTIES = ("alice", "bob", "carol")
#: Where a coordinator can die: just before these calls of its own.
CRASHES = [
    (Enqueuer, "put"),
    (Enqueuer, "_note_enqueued"),
    (Dispatcher, "_claim"),
    (Recovery, "_end"),
    (Listener, "_handle"),
]


#: For what would else happen in every run before anything had time to get going: done on zero.
RARELY = st.integers(0, 3)


class Killed(BaseException):
    """The coordinator was killed here."""


class Life(RuleBasedStateMachine):
    connection: Redis

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.connection.flushdb()
        self.spool = tempfile.TemporaryDirectory()
        for index, name in enumerate(PARTIES):
            first = 20000 + 10 * index
            Party.objects.create(
                name=name,
                address="127.0.0.1",
                port_first=first,
                port_last=first + 5,
                signing_keys=voice(name).public_key,
            )
        #: Live workers by party, and what each of them is computing.
        self.workers: dict[str, dict[str, str | None]] = {name: {} for name in PARTIES}
        self.started: Counter[str] = Counter()
        #: Jobs that have reported their end and not yet let go of their ports.
        self.ending: set[str] = set()
        self.count = 0
        self.new_coordinator()
        for party in PARTIES:
            self.start_worker(party)

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)
        self.connection.flushdb()
        self.spool.cleanup()

    def new_coordinator(self) -> None:
        self.listener = Listener(self.connection)
        self.dispatcher = Dispatcher(self.connection)
        self.recovery = Recovery(self.connection)

    def coordinate(self) -> None:
        self.listener.step()
        self.recovery.step()
        dispatch(self.dispatcher)

    # --- operators

    @rule(parties=st.sampled_from([("alice", "bob"), ("bob", "carol"), PARTIES]), priority=st.integers(0, 2))
    def submit(self, parties: tuple[str, ...], priority: int) -> None:
        body = documents()
        body["sf_init_config"] = {"parties": list(parties)}
        task = {
            "data_sources": dict.fromkeys(parties, "t"),
            "outputs": dict.fromkeys(parties, "o"),
            "algorithm_params": {
                "psi_params": {
                    "input_keys": {p: ["k"] for p in parties},
                    "receivers": list(parties),
                    "protocol": "PROTOCOL_ECDH_NPC",
                }
            },
        }
        body["task_config"] = body["task_config"] | task
        now = timezone.now()
        Execution.objects.create(
            task_type="psi", parties=list(parties), documents=body, priority=priority, created_at=now, queued_at=now
        )

    @rule(index=st.integers(0, 3), luck=RARELY)
    def cancel(self, index: int, luck: int) -> None:
        if luck:
            return
        execution = Execution.objects.order_by("created_at")[index : index + 1].first()
        if execution:
            try:
                execution.cancel()
            except NotCancellable:
                assert execution.status in ENDED

    # --- parties

    @rule(party=st.sampled_from(PARTIES))
    def start_worker(self, party: str) -> None:
        if len(self.workers[party]) < 2:
            self.count += 1
            name = f"{party}-{self.count}"
            add_worker(self.connection, party, str(self.count))
            self.workers[party][name] = None

    @rule(party=st.sampled_from(PARTIES), luck=RARELY)
    def kill_worker(self, party: str, luck: int) -> None:
        if self.workers[party] and not luck:
            name = next(iter(self.workers[party]))
            del self.workers[party][name]  # and its job with it
            self.connection.delete(f"rq:worker:{name}")

    @rule(party=st.sampled_from(PARTIES))
    def take_job(self, party: str) -> None:
        for name, job in self.workers[party].items():
            if job is None and (taken := self.connection.lpop(f"rq:queue:{party}")):
                job_id = taken.decode()
                self.started[job_id] += 1
                assert self.started[job_id] == 1, "a job was run twice"
                self.workers[party][name] = job_id
                begin_job(self.connection, job_id, name)
                self.publish(party, job_id, RUNNING, "task_started")
                return

    @rule()
    def work(self) -> None:
        """What mostly happens: a step, and every party takes what it was sent."""
        self.coordinate()
        for party in PARTIES:
            self.take_job(party)

    @rule(
        party=st.sampled_from(PARTIES),
        outcome=st.sampled_from(["SUCCESS", "ConfigError", "NetworkError", "ResourceError", "silent", "unnoted"]),
    )
    def end_job(self, party: str, outcome: str) -> None:
        for name, job_id in self.workers[party].items():
            if job_id is not None and job_id not in self.ending:
                if outcome == "SUCCESS":
                    self.publish(party, job_id, SUCCESS, "task_execution")
                elif outcome not in ("silent", "unnoted"):
                    self.publish(party, job_id, FAILURE, "sf_init", error="it broke", error_type=outcome)
                else:
                    if outcome == "silent":  # else Redis was away, and nobody could note it
                        self.connection.hset(f"rq:job:{job_id}", "status", "failed")
                    self.leave(party, name)
                    return
                self.ending.add(job_id)
                return

    @rule(party=st.sampled_from(PARTIES))
    def let_go(self, party: str) -> None:
        """A job that has reported its end has shut down."""
        for name, job_id in self.workers[party].items():
            if job_id in self.ending:
                self.publish(party, str(job_id), SUCCESS, "cleanup", first=90)
                self.connection.hset(f"rq:job:{job_id}", "status", "finished")
                self.leave(party, name)
                return

    def leave(self, party: str, name: str) -> None:
        self.workers[party][name] = None
        leave_job(self.connection, name)

    @rule()
    def obey_stop_commands(self) -> None:
        for run in PartyRun.objects.filter(released_at=None, stop_requested_at__isnull=False):
            for party, jobs in self.workers.items():
                for name, job_id in jobs.items():
                    if job_id == run.job_id:
                        self.connection.hset(f"rq:job:{job_id}", "status", "stopped")
                        self.leave(party, name)

    def publish(self, party: str, job_id: str, status: str, stage: str, first: int = 0, **data: Any) -> None:
        execution, _, attempt = job_id.removeprefix(f"{party}-").rpartition("-")
        sequence = first or {RUNNING: 1, SUCCESS: 50, FAILURE: 50}[status]
        Publisher(
            stream(self.connection, party),
            run=RunName(execution, int(attempt)),
            worker=party,
            task_type="psi",
            journal_dir=Path(self.spool.name),
            first_sequence=sequence,
        ).publish(status, stage, **data)

    # --- the coordinator and what befalls it

    @rule()
    def step(self) -> None:
        self.coordinate()

    @rule(where=st.sampled_from(CRASHES), luck=RARELY)
    def die_in_a_step(self, where: tuple[type, str], luck: int) -> None:
        if luck:
            return self.coordinate()
        owner, name = where

        def die(*_: Any, **__: Any) -> None:
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, die)
            try:
                with transaction.atomic():  # what it had not committed is gone; what it had is in savepoints within
                    self.coordinate_committing()
            except Killed:
                pass
        self.new_coordinator()

    def coordinate_committing(self) -> None:
        for one in (self.listener.step, self.recovery.step, lambda: dispatch(self.dispatcher)):
            try:
                one()
            except Killed:
                return

    @rule(luck=RARELY)
    def lose_redis(self, luck: int) -> None:
        """Redis comes back empty; the workers notice that their jobs are gone, and register again."""
        if luck:
            return
        self.connection.flushdb()
        for party, jobs in self.workers.items():
            for name in list(jobs):
                jobs[name] = None
                add_worker(self.connection, party, name.removeprefix(f"{party}-"))

    @rule()
    def let_time_pass(self) -> None:
        Execution.objects.filter(status=Status.RETRY).update(due_at=timezone.now())
        PartyRun.objects.filter(released_at=None).update(dispatched_at=timezone.now() - timedelta(minutes=1))

    # --- promises

    @invariant()
    def no_party_is_above_its_slots(self) -> None:
        for party in PARTIES:
            started = sum(job is not None for job in self.workers[party].values())
            assert started <= len(self.workers[party])
            # a claim never exceeds the workers there ever were at once
            assert PartyRun.objects.filter(party__name=party, released_at=None).count() <= 2 + self.dead_claims(party)

    def dead_claims(self, party: str) -> int:
        """Claims of workers that died since; they are released when that is found out."""
        computing = {job for job in self.workers[party].values() if job}
        return PartyRun.objects.filter(party__name=party, released_at=None).exclude(job_id__in=computing).count()

    @invariant()
    def ports_are_leased_once_and_only_while_they_are_used(self) -> None:
        leases = list(PortLease.objects.values_list("party__name", "port", "run__released_at"))
        assert len({(p, port) for p, port, _ in leases}) == len(leases)
        assert all(released is None for *_, released in leases)

    @invariant()
    def an_attempt_has_all_its_parties_and_only_the_newest_is_at_work(self) -> None:
        for execution in Execution.objects.prefetch_related("runs"):
            attempts = Counter(run.attempt for run in execution.runs.all())
            assert all(count == len(execution.parties) for count in attempts.values())
            assert set(attempts) == set(range(1, execution.attempt + 1))
            unreleased = {run.attempt for run in execution.runs.all() if run.released_at is None}
            assert unreleased <= ({execution.attempt} if execution.status != Status.QUEUED else set())

    @invariant()
    def what_computes_keeps_its_slot_and_its_ports(self) -> None:
        computing = {job for jobs in self.workers.values() for job in jobs.values() if job} - self.ending
        released = PartyRun.objects.filter(job_id__in=computing, released_at__isnull=False)
        assert not released, "its process computes, and another one may get its ports"

    @invariant()
    def nothing_is_decided_while_a_party_is_at_work(self) -> None:
        for execution in Execution.objects.filter(status__in=(Status.FAILURE, Status.CANCELLED, Status.RETRY)):
            runs = execution.runs.filter(attempt=execution.attempt)
            assert all(run.status in RUN_ENDED for run in runs)

    @invariant()
    def history_is_unbroken(self) -> None:
        for execution in Execution.objects.prefetch_related("changes"):
            changes = [c for c in execution.changes.all() if c.from_status]
            for one, following in itertools.pairwise(changes):
                assert one.to_status == following.from_status
            for change in changes:
                assert change.to_status in TRANSITIONS[Status][Status(change.from_status)]
            if changes:
                assert changes[-1].to_status == execution.status

    @invariant()
    def success_means_success_everywhere(self) -> None:
        for execution in Execution.objects.filter(status=Status.SUCCESS):
            runs = execution.runs.filter(attempt=execution.attempt)
            assert all(run.status == "SUCCESS" for run in runs)


class Ends(Life):
    """The same, and from wherever it got to, everything comes to an end once the workers behave."""

    def teardown(self) -> None:
        try:
            for party in PARTIES:
                self.start_worker(party)
            for _ in range(400):
                if not Execution.objects.exclude(status__in=ENDED).exists():
                    break
                self.let_time_pass()
                self.coordinate()
                self.obey_stop_commands()
                for party in PARTIES:
                    self.take_job(party)
                    self.end_job(party, "SUCCESS")
                    self.let_go(party)
            left = Execution.objects.exclude(status__in=ENDED)
            assert not left, [(e.status, e.waiting_for, list(e.runs.values())) for e in left]
            for _ in range(5):
                self.let_time_pass()
                self.coordinate()
                for party in PARTIES:
                    self.let_go(party)  # an execution may end by another party's error before this one has let go
            assert not PartyRun.objects.filter(released_at=None).exists()
            assert not PortLease.objects.exists()
            assert not PartyRun.objects.exclude(status__in=RUN_ENDED).exists()
        finally:
            super().teardown()


@pytest.mark.django_db
def test_it_keeps_its_promises_whatever_happens_in_whatever_order(
    connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Time is not waited for: what must last a while lasts no time, and retries are due when time passes
    for name in ("GRACE_SECONDS", "REPORT_SECONDS"):
        monkeypatch.setattr(Recovery, name, 0)
    monkeypatch.setattr(Recovery, "_has_been", lambda *_: True)
    monkeypatch.setattr(environment, "worker_grace_seconds", 0)
    monkeypatch.setattr(Listener, "CLAIM_AFTER_MS", 0)
    monkeypatch.setattr(
        settle,
        "RETRY_POLICY",
        {"NetworkError": ("network_retries", 0.0, True), "ResourceError": ("resource_retries", 0.0, False)},
    )
    Ends.connection = connection
    run_state_machine_as_test(
        Ends,
        settings=settings(
            max_examples=4,  # on each database; one takes some five seconds
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
