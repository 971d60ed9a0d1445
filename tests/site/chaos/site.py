"""The site that is broken: its hosts, its processes, and what is to be repaired later."""

from __future__ import annotations

import os
import random
import resource
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from redis import Redis
from secretflow_controlplane_client import Client

from executions.trial.stack import Trial

CLOCK = Path(__file__).parent / "clock"
PARTIES = ("alice", "bob", "carol")
#: Host of the web server and of the coordinators that have no host of their own.
CONTROL_PLANE = "control plane"


class NotNow(Exception):
    """The fault has nothing to break at this moment; another one is tried."""


class ChaosTrial(Trial):
    """A trial of several hosts, each with a clock and, at parties, a disk."""

    def __init__(self, directory: Path, own_hosts: Iterable[str] = ()) -> None:
        """``own_hosts``: coordinators that run on a host of their own."""
        super().__init__(directory, PARTIES)
        self.own_hosts = set(own_hosts)
        self._clocks = directory / "clocks"
        self._clocks.mkdir()
        self.hosts = [CONTROL_PLANE, *sorted(self.own_hosts), *PARTIES]
        for host in self.hosts:
            self.set_clock(host, 0)

    def set_clock(self, host: str, ahead: float) -> None:
        """Set the clock of a host so many seconds ahead of this one's: see ``clock/sitecustomize.py``."""
        path = self._clocks / host
        path.touch()
        with path.open("r+b") as file:  # in place: its processes have it mapped
            file.write(struct.pack("d", ahead))

    def host_of(self, name: str) -> str:
        """Return the host of a process."""
        if name in self.own_hosts or name == "valkey":
            return name
        party = name.partition("-")[0]
        return party if party in PARTIES else CONTROL_PLANE

    def write_party(self, party: str, datasets: Any) -> Path:
        path = super().write_party(party, datasets)
        # Not made just now, or it is not valid yet by a clock that was put back
        self._authority.certify(party, age=timedelta(days=1))
        return path

    def _start(self, name: str, command: list[str], env: dict[str, str], pass_fds: tuple[int, ...] = ()) -> None:
        host = self.host_of(name)
        if host in self.hosts:
            path = os.pathsep.join([str(CLOCK), env.get("PYTHONPATH", "")])
            env = env | {"CHAOS_CLOCK": str(self._clocks / host), "PYTHONPATH": path}
        super()._start(name, command, env, pass_fds)


class Site:
    """What is broken, and when what is repaired. Faults are functions that take it."""

    def __init__(self, trial: ChaosTrial, service: Client, draw: random.Random, workers: dict[str, str], slots: int):
        self.trial, self.service, self.draw = trial, service, draw
        #: By name of a worker's command: its party.
        self.workers, self.slots = workers, slots
        self.redis = Redis.from_url(trial.redis_url, socket_timeout=5)
        self.faults: Counter[str] = Counter()
        #: Commands that ended by themselves, by kind.
        self.gave_up: Counter[str] = Counter()
        #: What is to be done later, mostly starting something again, and when (monotonic seconds).
        self._repairs: list[tuple[float, Callable[[], None]]] = []
        #: Parties whose disk is full now; hosts whose clock is wrong now.
        self.full_disks: set[str] = set()
        self.wrong_clocks: set[str] = set()
        #: Executions that have ended.
        self.ended: list[str] = []
        #: Executions that were open while a party's disk was full: their events were on no disk.
        self.without_journal: set[str] = set()

    # --- what is to be repaired

    def later(self, most: float, mend: Callable[[], None], least: float = 0) -> None:
        """Have something done after ``least`` to ``most`` seconds."""
        self._repairs.append((time.monotonic() + self.draw.uniform(least, most), mend))

    def repair(self, everything: bool = False) -> None:
        """Do what is due, or all that is left to do."""
        due = [r for r in self._repairs if everything or r[0] <= time.monotonic()]
        self._repairs = [r for r in self._repairs if r not in due]
        for _, mend in due:
            mend()

    @property
    def is_whole(self) -> bool:
        return not self._repairs

    def supervise(self) -> None:
        """Start again what ended by itself, as a supervisor would."""
        ended = {n: status for n, p in self.trial.processes.items() if (status := p.poll()) is not None}
        for name, status in ended.items():
            self.gave_up[name] += 1
            print(f"{name} gave up with status {status}:\n{self.trial.tail(name, 12)}", flush=True)
            self.trial.stop_process(name)
            self.start(name)
        for party in self.full_disks:  # processes that began since then
            self.limit_files(party, 0)

    def start(self, name: str) -> None:
        """Start a worker's command or a coordinator."""
        if name in self.workers:
            self.trial.start_worker(self.workers[name], name, self.slots)
        elif name.startswith("coordinator"):
            self.trial.start_coordinator(name)
        else:
            raise AssertionError(f"{name} ended:\n{self.trial.tail(name)}")

    # --- what there is

    def alive(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name in self.trial.processes]

    def one_alive(self, names: Iterable[str]) -> str:
        """Return one of these that runs. Raises NotNow."""
        if not (alive := self.alive(names)):
            raise NotNow
        return self.draw.choice(alive)

    def coordinators(self) -> list[str]:
        return self.alive(name for name in sorted(self.trial.processes) if name.startswith("coordinator"))

    def workers_of(self, party: str) -> list[str]:
        return self.alive(name for name, owner in self.workers.items() if owner == party)

    def takers(self, name: str) -> list[int]:
        """Return the processes of a worker's command that take jobs: itself, or those that it forked for its slots."""
        pid = self.trial.processes[name].pid
        return [pid] if self.slots == 1 else children(pid)

    def limit_files(self, party: str, size: int) -> None:
        """Limit the size of files that the party's processes write; -1 for no limit."""
        for name in self.workers_of(party):
            for pid in tree(self.trial.processes[name].pid):
                with suppress(OSError):  # it has just ended
                    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most if size < 0 else size, most))


def children(pid: int) -> list[int]:
    """The processes that this one, or a thread of it, started; and those that became its own."""
    found = []
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in path.read_text().split()]
    return found


def tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for child in children(pid):
        yield from tree(child)


def wake(pid: int) -> None:
    with suppress(OSError):  # it was killed meanwhile
        os.kill(pid, signal.SIGCONT)
