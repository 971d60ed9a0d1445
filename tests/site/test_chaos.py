"""An execution always ends, exactly once, whatever is killed: real processes, real faults, at random, from a seed.

The short form, always of the same choices, runs with the other tests. ``make chaos`` runs the long one:
``CHAOS_EXECUTIONS=200``. With ``CHAOS_SEED`` a run's choices can be made again (not its timing).
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from controlplane.environment import ROOT
from executions.states import ENDED
from executions.trial.service import Service, ServiceError
from executions.trial.stack import Trial
from fixtures.documents import psi_documents
from fixtures.tables import write_tables
from tests.plugin.light_task import total_of
from tests.stack import DIRECTORY
from workers.runtime.task_run import EVENTS_OF_A_TRY

pytestmark = pytest.mark.pipeline

EXECUTIONS = int(os.environ.get("CHAOS_EXECUTIONS", "6"))
SEED = int(os.environ.get("CHAOS_SEED", "1")) or random.SystemRandom().randrange(1, 10**6)
#: Faults that a run is not without, however few its executions are.
FAULTS = 2
#: Seconds in which everything that was submitted has to end, once nothing is broken any more.
END_LIMIT = 240.0
#: Executions that have not ended, at most: enough that they wait for one another.
IN_FLIGHT = 6
#: Jobs that a worker's command does at once: of every other seed several, by one command for each party.
SLOTS = 1 + SEED % 2
WORKERS = {"alice-1": "alice", "bob-1": "bob", "carol-1": "carol"}
if SLOTS == 1:
    WORKERS |= {"alice-2": "alice", "bob-2": "bob"}

#: What became of everything, as the database has it.
REPORT = """
import json
from executions.models import *
def of(e):
    return {
        "id": str(e.pk), "status": e.status, "attempt": e.attempt, "error": e.error, "error_type": e.error_type,
        "retries": e.retries, "limits": [e.network_retries, e.resource_retries], "result": e.result, "name": e.name,
        "changes": list(e.changes.values_list("from_status", "to_status")),
        "history": [f"{c.at:%T.%f} {c.to_status} {c.why}" for c in e.changes.all()],
        "runs": [[r.attempt, r.party.name, r.status, r.last_sequence] for r in e.runs.select_related("party")],
        "times": [
            f"{r.job_id}: " + ", ".join(f"{n} {getattr(r, n + '_at'):%T.%f}" for n in
            ["dispatched", "enqueued", "started", "ended", "stop_requested", "released"] if getattr(r, n + "_at"))
            for r in e.runs.all()
        ],
        "events": [[v.attempt, v.party, v.sequence, v.status, v.stage, v.timestamp.timestamp(), v.worker]
                   for v in e.events.order_by("attempt", "party", "sequence")],
    }
print(json.dumps({
    "executions": [of(e) for e in Execution.objects.all()],
    "leases": PortLease.objects.count(),
    "unreleased": PartyRun.objects.filter(released_at=None).count(),
}))
"""


class Chaos:
    """Submits and breaks things, both at random."""

    def __init__(self, trial: Trial, service: Service, draw: random.Random) -> None:
        self.trial, self.service, self.draw = trial, service, draw
        self.submitted: dict[str, dict[str, Any]] = {}
        self.open: list[str] = []
        self.faults: Counter[str] = Counter()
        #: What is to be done later, mostly starting something again, and when (monotonic seconds).
        self.repairs: list[tuple[float, Callable[[], None]]] = []

    # --- what services do

    def submit(self) -> None:
        kind = self.draw.choices(["light", "light of three", "psi", "wrong"], [6, 2, 2, 1])[0]
        body, expected = self._documents(kind)
        body |= {"name": kind, "priority": self.draw.randrange(3)}
        try:
            execution = self.service.submit(body)
        except ServiceError:  # the database is locked: the service tries again later
            return
        self.submitted[execution["id"]] = {"kind": kind, "expected": expected}
        self.open.append(execution["id"])
        if self.draw.random() < 0.1:
            self._later(10, lambda: self.cancel(execution["id"]))

    def _documents(self, kind: str) -> tuple[dict[str, Any], Any]:
        if kind == "psi":
            return psi_documents(), None
        parties = (
            ["alice", "bob", "carol"] if kind == "light of three" else self.draw.sample(["alice", "bob", "carol"], 2)
        )
        rounds = self.draw.randrange(1, 60)
        dataset = "absent" if kind == "wrong" else "breast_cancer"
        task = {
            "task_type": "light",
            "data_sources": dict.fromkeys(parties, dataset),
            "algorithm_params": {"light_params": {"rounds": rounds}},
        }
        body = {
            "sf_init_config": {"parties": parties},
            "spu_config": {"enable_spu": False},
            "heu_config": {"enable_heu": False},
            "task_config": task,
        }
        return body, total_of(rounds, len(parties))

    def cancel(self, execution: str) -> None:
        self.submitted[execution]["cancelled"] = True
        with suppress(ServiceError):  # it has ended, or the database is locked: before the cancelling, or after it
            self.service.call("POST", f"/api/v1/executions/{execution}/cancel/")

    def look(self) -> None:
        """See which of the open ones have ended."""
        try:
            listed = self.service.call("GET", "/api/v1/executions/?page_size=100")["results"]
        except ServiceError:
            return
        ended = {e["id"] for e in listed if e["status"] in ENDED}
        self.open = [e for e in self.open if e not in ended]

    # --- what breaks

    def break_something(self) -> None:
        faults: list[tuple[str, Callable[[], None], int]] = [
            ("a job's process", self.kill_process, 4),
            ("a worker", self.kill_worker, 3),
            ("all workers of a party", self.kill_party, 1),
            ("a coordinator", self.kill_coordinator, 3),
            ("Redis, back with its data", lambda: self.kill_redis(False), 1),
            ("Redis, back empty", lambda: self.kill_redis(True), 1),
            ("a worker asleep", self.stop_worker, 1),
            ("the database", self.break_database, 1),
            ("a coordinator that waits for the database", self.kill_waiting_coordinator, 2),
        ]
        name, fault, _ = self.draw.choices(faults, [weight for _, _, weight in faults])[0]
        self.faults[name] += 1
        fault()

    def repair(self, everything: bool = False) -> None:
        due = [r for r in self.repairs if everything or r[0] <= time.monotonic()]
        self.repairs = [r for r in self.repairs if r not in due]
        for _, mend in due:
            mend()

    def supervise(self) -> None:
        """Start again what ended by itself, as a supervisor would."""
        for name in [n for n, process in self.trial.processes.items() if process.poll() is not None]:
            self.faults[f"{name.split('-')[0]} gave up"] += 1
            print(f"{name} gave up:\n{self.trial.tail(name, 12)}")
            self.trial.stop_process(name)
            if name in WORKERS:
                self.trial.start_worker(WORKERS[name], name, SLOTS)
            elif name.startswith("coordinator"):
                self.trial.start_coordinator(name)
            else:
                raise AssertionError(f"{name} ended:\n{self.trial.tail(name)}")

    def _later(self, most: float, mend: Callable[[], None]) -> None:
        self.repairs.append((time.monotonic() + self.draw.uniform(0, most), mend))

    def _alive(self, names: list[str]) -> str | None:
        alive = [name for name in names if name in self.trial.processes]
        return self.draw.choice(alive) if alive else None

    def kill_worker(self, name: str | None = None) -> None:
        name = name or self._alive(list(WORKERS))
        if name and name in self.trial.processes:
            self.trial.stop_process(name, signal.SIGKILL)
            self._later(3, lambda: self.trial.start_worker(WORKERS[name], name, SLOTS))

    def kill_party(self) -> None:
        party = self.draw.choice(sorted(set(WORKERS.values())))
        for name, owner in WORKERS.items():
            if owner == party:
                self.kill_worker(name)

    def _workers(self, name: str) -> list[int]:
        """The processes that take jobs: the command itself, or those that it forked for its slots."""
        pid = self.trial.processes[name].pid
        return [pid] if SLOTS == 1 else children(pid)

    def kill_process(self) -> None:
        if name := self._alive(list(WORKERS)):
            with suppress(OSError, IndexError):  # it has just ended
                os.kill(self.draw.choice(children(self.draw.choice(self._workers(name)))), signal.SIGKILL)

    def stop_worker(self) -> None:
        """The host goes silent for longer than a heartbeat lives, and comes back."""
        if (name := self._alive(list(WORKERS))) and (workers := self._workers(name)):
            pid = self.draw.choice(workers)
            with suppress(OSError):  # it has just ended
                os.kill(pid, signal.SIGSTOP)
                self.repairs.append((time.monotonic() + 14, lambda: wake(pid)))

    def kill_coordinator(self) -> None:
        if name := self._alive(["coordinator-1", "coordinator-2"]):
            self.trial.stop_process(name, signal.SIGKILL)
            self._later(2, lambda: self.trial.start_coordinator(name))

    def kill_waiting_coordinator(self) -> None:
        """It has written to Redis, and not to the database yet: what it had in hand is half done."""
        self.break_database()
        time.sleep(self.draw.uniform(0, 1))
        self.kill_coordinator()

    def kill_redis(self, empty: bool) -> None:
        if "valkey" not in self.trial.processes:
            return
        self.trial.stop_process("valkey", signal.SIGKILL)
        if empty:
            shutil.rmtree(self.trial.directory / "valkey")
        self._later(4, self.trial.start_valkey)

    def break_database(self) -> None:
        """SQLite is locked for a while; PostgreSQL ends all connections."""
        if url := self.trial.env.get("DATABASE_URL"):
            with psycopg.connect(url, autocommit=True) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            return
        path = self.trial.directory / "db.sqlite3"
        database = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            database.close()
            return
        self._later(4, database.close)

    # --- the whole of it

    def run(self, count: int, pause: float) -> None:
        next_fault = time.monotonic() + 1
        while len(self.submitted) < count or self.open:
            breaking = len(self.submitted) < count or self.faults.total() < FAULTS
            if len(self.submitted) < count and len(self.open) < IN_FLIGHT:
                self.submit()
            if time.monotonic() >= next_fault and breaking:
                self.break_something()
                next_fault = time.monotonic() + self.draw.uniform(0.3, 2 * pause)
            self.repair()
            self.supervise()
            self.look()
            if not breaking and not self.repairs:
                break
            time.sleep(0.2)
        self.repair(everything=True)
        end = time.monotonic() + END_LIMIT
        while self.open and time.monotonic() < end:
            self.supervise()
            self.look()
            time.sleep(0.2)


def children(pid: int) -> list[int]:
    """The processes that this one, or a thread of it, started; and those that became its own."""
    return [int(child) for found in Path(f"/proc/{pid}/task").glob("*/children") for child in found.read_text().split()]


def wake(pid: int) -> None:
    with suppress(OSError):  # it was killed meanwhile
        os.kill(pid, signal.SIGCONT)


def report(trial: Trial) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", REPORT],
        cwd=ROOT, env=trial.env, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def check_history(execution: dict[str, Any]) -> None:
    """Its states follow one another, and its events are those of one attempt after the other."""
    states = ["", *(to for _, to in execution["changes"])]
    assert [before for before, _ in execution["changes"]] == states[:-1], "a change of state is missing"
    assert states[-1] == execution["status"]
    assert sum(state in ENDED for state in states) == 1, "it ended more than once"
    by_attempt: dict[int, list[Any]] = {}
    for event in execution["events"]:
        by_attempt.setdefault(event[0], []).append(event)
    for attempt, events in by_attempt.items():
        began = min(e[5] for e in events)
        for earlier in (e for a, found in by_attempt.items() if a < attempt for e in found if e[4] != "cleanup"):
            assert earlier[5] <= began, f"attempt {earlier[0]} went on beside attempt {attempt}"
        for party in {e[1] for e in events}:
            computing = {e[6] for e in events if e[1] == party and e[2] < 1_000_000}
            assert len(computing) <= 1, f"{party} ran attempt {attempt} twice"


def check_success(execution: dict[str, Any], submitted: dict[str, Any], patients: int) -> None:
    result = execution["result"]
    if submitted["kind"] == "psi":
        assert result["intersection_count"] == {"alice": patients, "bob": patients}
    else:
        assert result["total"] == submitted["expected"]
    for attempt, party, status, _ in execution["runs"]:
        if attempt == execution["attempt"]:
            assert status == "SUCCESS"
            told = [e for e in execution["events"] if e[0] == attempt and e[1] == party]
            own = [e for e in told if e[2] < 1_000_000]  # the rest is its worker's report of how it ended
            # A process whose links hung hands the run on to another one, which counts from the next thousand
            for numbers in itertools.groupby((e[2] for e in own), lambda number: number // EVENTS_OF_A_TRY):
                found = list(numbers[1])
                first = numbers[0] * EVENTS_OF_A_TRY + 1
                assert found == list(range(first, first + len(found))), "an event is lost"
            assert own[0][4] == "task_started"
            # killed after it had said so, it did not come to its clean-up
            assert next(e[3:5] for e in own if e[3] == "SUCCESS") == ["SUCCESS", "task_execution"]


def check_failure(execution: dict[str, Any], submitted: dict[str, Any]) -> None:
    if submitted["kind"] == "wrong":
        assert execution["error_type"] == "ConfigError", execution["error"]
        return
    network, resource = execution["limits"]
    limits = {"NetworkError": network, "ResourceError": resource}
    kind = execution["error_type"]
    assert kind in limits, execution["error"]
    assert execution["retries"].get(kind, 0) == limits[kind], f"it gave up too early: {execution}"


def test_every_execution_ends_once_whatever_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"CHAOS_SEED={SEED} CHAOS_EXECUTIONS={EXECUTIONS}")
    directory = DIRECTORY / "chaos"
    directory.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/plugin"))
    # Its workers are away more often, and for longer, than a real party's
    monkeypatch.setenv("CONTROLPLANE_WORKER_GRACE_SECONDS", "60")
    with Trial(directory, ("alice", "bob", "carol")) as trial:
        tables = write_tables(directory)
        carol = directory / "carol.csv"
        carol.write_text("uid\na\n")
        service = trial.start(
            {p: {"breast_cancer": tables.get(p, carol), "absent": directory / "absent.csv"} for p in trial.parties},
            workers=WORKERS, slots=SLOTS, coordinators=("coordinator-1", "coordinator-2"),
        )  # fmt: skip
        columns = {"uid": "str"}
        for party in trial.parties:
            for name in {"breast_cancer", "absent"} - ({"breast_cancer"} if party in tables else set()):
                service.call("POST", "/api/v1/datasets/", {"party": party, "name": name, "columns": columns})
        keys = [{line.partition(",")[0] for line in path.read_text().splitlines()[1:]} for path in tables.values()]
        patients = len(set.intersection(*keys))

        chaos = Chaos(trial, service, random.Random(SEED))
        started = time.monotonic()
        chaos.run(EXECUTIONS, pause=4.0)
        seconds = time.monotonic() - started
        time.sleep(5)  # the last clean-ups
        found = report(trial)

    executions = {e["id"]: e for e in found["executions"]}
    ends = Counter(executions[e]["status"] for e in chaos.submitted)
    attempts = sum(executions[e]["attempt"] for e in chaos.submitted)
    print(f"{dict(ends)} in {attempts} attempts and {seconds:.0f} s; broken: {dict(chaos.faults)}")
    assert chaos.faults.total() >= FAULTS, "everything had ended before"
    assert chaos.open == [], [executions[e] for e in chaos.open]
    assert set(ends) <= ENDED
    assert (found["leases"], found["unreleased"]) == (0, 0)
    for pk, submitted in chaos.submitted.items():
        # Shown where a check of it fails
        print("\n".join([f"{pk} {submitted}", *executions[pk]["history"], *executions[pk]["times"], ""]))
        check_history(executions[pk])
        if executions[pk]["status"] == "SUCCESS":
            check_success(executions[pk], submitted, patients)
        elif executions[pk]["status"] == "FAILURE":
            check_failure(executions[pk], submitted)
        else:
            assert submitted.get("cancelled"), "nobody cancelled it"
