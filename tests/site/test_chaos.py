"""An execution always ends, exactly once, whatever is broken: real processes, real faults, at random, from a seed.

The short form, always of the same choices, runs with the other tests. ``make chaos`` runs the long one:
``CHAOS_EXECUTIONS=300``. With ``CHAOS_SEED`` a run's choices can be made again (not its timing).
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from secretflow_controlplane_client import Client

from controlplane.environment import ROOT
from executions.states import ENDED
from fixtures.tables import write_tables
from tests.site.chaos import floods, hosts, processes
from tests.site.chaos.checks import check, report
from tests.site.chaos.services import Services
from tests.site.chaos.site import ChaosTrial, NotNow, Site
from tests.site.chaos.watch import Watch
from tests.stack import DIRECTORY

pytestmark = pytest.mark.pipeline

EXECUTIONS = int(os.environ.get("CHAOS_EXECUTIONS", "6"))
SEED = int(os.environ.get("CHAOS_SEED", "1")) or random.SystemRandom().randrange(1, 10**6)
IS_LONG = EXECUTIONS > 10
#: Faults that a run is not without, however few its executions are.
FAULTS = 2
#: Seconds between two faults, in the middle.
PAUSE = 3.0 if IS_LONG else 1.5
#: Seconds in which everything that was submitted has to end, once nothing is broken any more.
END_LIMIT = 240.0
#: Executions that have not ended, at most: enough that they wait for one another.
IN_FLIGHT = 6
#: Jobs that a worker's command does at once: of every other seed several, by one command for each party.
SLOTS = 1 + SEED % 2
WORKERS = {"alice-1": "alice", "bob-1": "bob", "carol-1": "carol"}
if SLOTS == 1:
    WORKERS |= {"alice-2": "alice", "bob-2": "bob"}
COORDINATORS = ("coordinator-1", "coordinator-2", *(("coordinator-3",) if IS_LONG else ()))
#: Coordinators on a host of their own, with a clock of its own. On SQLite all have to be on the database's.
OWN_HOSTS = ("coordinator-3",) if IS_LONG and "DATABASE_URL" in os.environ else ()

#: How often each fault is among the cards that are dealt, one after the other, before they are shuffled again.
CARDS: dict[str, tuple[Callable[[Site], None], int]] = {
    "a job's process": (processes.kill_process, 4),
    "a worker": (processes.kill_worker, 3),
    "all workers of a party": (processes.kill_party, 1),
    "a coordinator": (processes.kill_coordinator, 3),
    "all coordinators but one stopped": (processes.stop_coordinators, 2),
    "Redis, back with its data": (processes.kill_redis, 1),
    "Redis, back empty": (processes.empty_redis, 1),
    "Redis full": (hosts.fill_redis, 2),
    "Redis's clock an hour ahead": (hosts.step_clock_of_redis, 1),
    "a worker asleep": (processes.stop_worker, 1),
    "a database that drops its connections": (processes.break_connections, 1),
    "a database that restarts": (processes.restart_database, 1),
    "a coordinator that waits for the database": (processes.kill_waiting_coordinator, 2),
    "a host's clock off by an hour": (hosts.step_clock, 3),
    "a party's disk full": (hosts.fill_disk, 2),
    "a flood of entries": (floods.flood, 2),
    "malformed entries": (floods.send_malformed, 1),
}


class Chaos:
    """Submits and breaks things, both at random."""

    def __init__(self, site: Site, services: Services, watch: Watch) -> None:
        self.site, self.services, self.watch = site, services, watch
        self._cards: list[str] = []

    def run(self, count: int, pause: float) -> None:
        site, services = self.site, self.services
        next_fault = time.monotonic() + 1
        # More than so many where they end before enough was broken: all faults happen under some
        while (breaking := len(services.all) < count or site.faults.total() < FAULTS) or services.open:
            if breaking and len(services.open) < IN_FLIGHT:
                services.submit()
            if breaking and time.monotonic() >= next_fault:
                self.break_something()
                next_fault = time.monotonic() + site.draw.uniform(0.3, 2 * pause)
            self._step()
            if not breaking and site.is_whole:
                break
        site.repair(everything=True)
        self.watch.say("nothing is broken any more")
        end = time.monotonic() + END_LIMIT
        while (services.open or not site.is_whole) and time.monotonic() < end:
            self._step()

    def _step(self) -> None:
        self.site.repair()
        self.site.supervise()
        self.services.look()
        self.watch.step()
        time.sleep(0.2)

    def break_something(self) -> None:
        for _ in range(10):
            if not self._cards:
                self._cards = [name for name, (_, number) in CARDS.items() for _ in range(number)]
                self.site.draw.shuffle(self._cards)
            name = self._cards.pop()
            try:
                CARDS[name][0](self.site)
            except NotNow:
                continue
            self.site.faults[name] += 1
            return


@contextmanager
def told_to_end() -> Iterator[None]:
    """Let SIGTERM end the test as Ctrl-C does: in order, and with what is known so far."""

    def end(*_: Any) -> None:
        raise KeyboardInterrupt("SIGTERM")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def prepare(trial: ChaosTrial) -> tuple[Client, int]:
    """Start the site. Returns a client of it, and how many rows alice and bob have in common."""
    directory = trial.directory
    tables = write_tables(directory)
    carol = directory / "carol.csv"
    carol.write_text("uid\na\n")
    service = trial.start(
        {p: {"breast_cancer": tables.get(p, carol), "absent": directory / "absent.csv"} for p in trial.parties},
        workers=WORKERS, slots=SLOTS, coordinators=COORDINATORS,
    )  # fmt: skip
    columns = {"uid": "str"}
    for party in trial.parties:
        for name in {"breast_cancer", "absent"} - ({"breast_cancer"} if party in tables else set()):
            service.call("POST", "/api/v1/datasets/", {"party": party, "name": name, "columns": columns})
    keys = [{line.partition(",")[0] for line in path.read_text().splitlines()[1:]} for path in tables.values()]
    return service, len(set.intersection(*keys))


def test_every_execution_ends_once_whatever_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "PostgreSQL" if "DATABASE_URL" in os.environ else "SQLite"
    print(f"CHAOS_SEED={SEED} CHAOS_EXECUTIONS={EXECUTIONS} on {where}, {SLOTS} slots", flush=True)
    directory = DIRECTORY / "chaos"
    directory.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/plugin"))
    # Its workers are away more often, and for longer, than a real party's
    monkeypatch.setenv("CONTROLPLANE_WORKER_GRACE_SECONDS", "60")
    with told_to_end(), ChaosTrial(directory, OWN_HOSTS) as trial:
        service, patients = prepare(trial)
        service.timeout = 5  # what is to be repaired waits meanwhile
        site = Site(trial, service, random.Random(SEED), WORKERS, SLOTS)
        services = Services(site)
        watch = Watch(site, services, EXECUTIONS)
        try:
            Chaos(site, services, watch).run(EXECUTIONS, PAUSE)
            seconds = time.monotonic() - watch.began
        except BaseException:
            watch.say(watch.line())
            raise
        end = time.monotonic() + END_LIMIT
        found = report(trial)
        # The last clean-ups, and what Redis did not take: workers send it again with their next heartbeat
        while (found["unreleased"] or wrong_ones(site, services, found, patients)) and time.monotonic() < end:
            time.sleep(1)
            found = report(trial)

    executions = {e["id"]: e for e in found["executions"]}
    for line in summary(site, services, executions, seconds):
        print(line, flush=True)
    print(f"dead letters {found['dead_letters']}")
    assert site.faults.total() >= FAULTS, "everything had ended before"
    assert not services.open, [executions[pk] for pk in services.open]
    assert {executions[pk]["status"] for pk in services.all} <= ENDED
    assert (found["leases"], found["unreleased"]) == (0, 0)
    wrong = wrong_ones(site, services, found, patients)
    for pk, error in wrong.items():
        found_out = [*executions[pk]["history"], *executions[pk]["times"], *logged(trial, pk), ""]
        print("\n".join([f"WRONG: {services.all[pk]}: {error!r}", *found_out]))
    assert not wrong


def wrong_ones(site: Site, services: Services, found: dict[str, Any], patients: int) -> dict[str, Exception]:
    """Return what is wrong with executions, by their ids."""
    executions = {e["id"]: e for e in found["executions"]}
    wrong: dict[str, Exception] = {}
    for pk, followed in services.all.items():
        try:
            check(executions[pk], followed, patients, has_journal=pk not in site.without_journal)
        except (AssertionError, KeyError, StopIteration) as error:
            wrong[pk] = error
    return wrong


def logged(trial: ChaosTrial, pk: str) -> Iterator[str]:
    """Yield what the workers' logs say of an execution that is more than information, with its traceback."""
    for path in sorted(trial.logs.glob("*.log")):
        is_shown = False
        for line in path.read_text(errors="replace").splitlines():
            if re.match(r"\d{4}-\d\d-\d\d ", line):
                is_shown = pk in line and " INFO " not in line
            # Of whichever process: the stack of a crash names none
            is_shown |= line.startswith("Fatal Python error")
            if is_shown:
                yield f"{path.stem}: {line[:300]}"


def summary(site: Site, services: Services, executions: dict[str, Any], seconds: float) -> Iterator[str]:
    """Yield the lines that say what happened."""
    ends: Counter[str] = Counter()
    for pk in services.all:
        kind = executions[pk]["error_type"]
        ends[executions[pk]["status"] + (f" ({kind})" if executions[pk]["status"] == "FAILURE" else "")] += 1
    attempts = sum(executions[pk]["attempt"] for pk in services.all)
    yield f"{len(services.all)} executions in {attempts} attempts and {seconds:.0f} s, {site.faults.total()} faults"
    yield from (f"  {number:4} {name}" for name, number in site.faults.most_common())
    yield "ends: " + ", ".join(f"{number} {end}" for end, number in ends.most_common())
    yield "gave up by themselves: " + (", ".join(f"{n} ({number})" for n, number in site.gave_up.items()) or "none")
    stillest = max(services.all.values(), key=lambda f: f.longest_still)
    slowest = max(services.all.values(), key=lambda f: f.took)
    yield f"longest without a change: {stillest.longest_still:.0f} s, {stillest.still_in}"
    yield f"longest from submission to end: {slowest.took:.0f} s, {slowest}"
