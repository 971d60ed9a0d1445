"""Parties that run tasks together without worker and control plane: the rest is as in production.

Each is a process (:mod:`tests.party_process`) that calls ``execute_secretflow_task``, run after run. They are forked
from one that has imported SecretFlow, and shared by all tests of a pytest process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from tests import party_process
from tests.keys import introduce
from tests.workers.network.test_rendezvous import Ports
from workers.network.links import LINK_LOST
from workers.runtime.compute_process import LINKS_STAY
from workers.runtime.worker import MOST_TRIES

#: No run of these tests takes longer, in seconds.
LIMIT = 60.0
#: What the others have once one has failed, in seconds.
GRACE = 6.0
#: Makes processes that have SecretFlow imported.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.preloaded"])
#: Of an HEU whose keys are made soon.
SMALL_KEYS = {"he_parameters": {"schema": "ou", "key_pair": {"generate": {"bit_size": 1024}}}}


class Processes:
    """One for each name of a party. After a failed run a process is spent: the next run gets a fresh one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: dict[str, BaseProcess] = {}
        self._orders: dict[str, Connection] = {}
        #: Those of the last run: a session that it left is up at all of them.
        self._together: set[str] = set()
        #: How often links hung, and were made anew by fresh processes.
        self.links_lost = 0

    def run(self, orders: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Each party's answer to its order."""
        if self._together != set(orders):
            self._end_session()
        for name in orders:
            if name not in self._processes:
                self._start(name)
        self._together = set(orders)
        for _ in range(MOST_TRIES):
            answers: dict[str, dict[str, Any]] = {}
            try:
                for name, order in orders.items():
                    self._orders[name].send(order)
                answers = self._hear_all(orders, LIMIT)
            finally:
                lost = any(process.exitcode in (LINK_LOST, -LINKS_STAY) for process in self._processes.values())
                if any(failed(answers.get(name)) for name in orders):
                    self.end(orders)
            if not lost:
                return answers
            self.links_lost += 1
            for name in orders:  # as workers do
                self._start(name)
        return answers

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values() if process.pid]

    def _end_session(self) -> None:
        """At all its parties at once: SecretFlow's shutdown waits for the peers."""
        names = [name for name in self._together if name in self._processes]
        for name in names:
            self._orders[name].send({})
        for name in names:
            assert self._orders[name].poll(LIMIT), f"{name} says nothing"
            try:
                assert self._orders[name].recv() == "ended"
            except EOFError:  # its links hung as they ended
                self.links_lost += 1
                self.end([name])

    def _hear_all(self, names: Iterable[str], limit: float) -> dict[str, dict[str, Any]]:
        """After a failure the others have a few seconds: one that waits for its peer would do so for a day."""
        waiting = {self._orders[name]: name for name in names}
        answers: dict[str, dict[str, Any]] = {}
        while waiting:
            said = wait(list(waiting), limit)
            for orders in said:
                assert isinstance(orders, Connection)
                name = waiting.pop(orders)
                try:
                    answers[name] = orders.recv()
                except (EOFError, ConnectionResetError):
                    self._processes[name].join(LIMIT)  # its pipe closes before it has an exit code
                    answers[name] = failure(f"ended: {self._log(name)}")
                limit = GRACE if failed(answers[name]) else limit
            if not said:
                return answers | {name: failure(f"says nothing: {self._stacks(name)}") for name in waiting.values()}
        return answers

    def end(self, names: Iterable[str] | None = None) -> None:
        for name in list(self._processes if names is None else names):
            process = self._processes.pop(name)
            process.kill()
            process.join(LIMIT)
            self._orders.pop(name).close()

    def _start(self, name: str) -> None:
        home = self.directory / name
        home.mkdir(exist_ok=True)
        self._orders[name], theirs = FORKS.Pipe()
        process = FORKS.Process(
            target=party_process.main, args=(theirs, os.environ["REDIS_URL"], home), name=name, daemon=True
        )
        process.start()
        theirs.close()  # otherwise nobody would see that it has ended
        self._processes[name] = process

    def _stacks(self, name: str) -> str:
        """Where its threads are."""
        before = len(self._whole_log(name))
        os.kill(self._processes[name].pid or 0, signal.SIGUSR1)
        time.sleep(1)  # it writes them at once, but does not say when it has
        return self._whole_log(name)[before:]

    def _log(self, name: str) -> str:
        return self._whole_log(name)[-3000:]

    def _whole_log(self, name: str) -> str:
        return (self.directory / name / "log").read_text()


def failed(answer: Mapping[str, Any] | None) -> bool:
    return answer is None or answer["status"] != "success"


def failure(error: str) -> dict[str, Any]:
    """As the answer of a process that gives none."""
    return {"status": "failure", "result_metadata": {"error": error}}


class Parties:
    """Parties with tables of their own, and tasks over them.

    ``layers``: documents of devices for all runs that name no others; a device of which there is none is off.
    All tables are declared to line up, but for those that ``alignments`` has, by party and name; ``options`` has
    further lines of party.toml for a table.
    """

    def __init__(self, processes: Processes, directory: Path, names: Sequence[str], **layers: Any) -> None:
        self.directory, self.names = directory, list(names)
        self._processes, self._layers, self._ports = processes, layers, Ports()
        self.alignments: dict[tuple[str, str], str | None] = {}
        self.options: dict[tuple[str, str], str] = {}
        #: By party and name, tables that are no plain CSV: what party.toml says of them.
        self.other_tables: dict[tuple[str, str], str] = {}
        #: Further lines of a party's policy.
        self.policies: dict[str, str] = {}
        #: By party and table, what the control plane would send each party.
        self.column_types: dict[str, dict[str, dict[str, str]]] = {}
        for name in names:
            (directory / name).mkdir(exist_ok=True)

    def table(self, party: str, name: str, frame: pd.DataFrame | str | bytes) -> None:
        """Register a table, all of which are declared to line up. As text or bytes, it is written as it is."""
        text = frame if isinstance(frame, str | bytes) else frame.to_csv(index=False)
        content = text if isinstance(text, bytes) else text.encode()
        (self.directory / party / f"{name}.csv").write_bytes(content)

    def run(self, task: Mapping[str, Any], **layers: Any) -> dict[str, dict[str, Any]]:
        """What the task returned at each party; on the live session of the run before, where that suits.

        Raises AssertionError with the parties' errors.
        """
        answers = self.answers({"keep_devices_seconds": 3600, **task}, **layers)
        return {name: answer["result_metadata"] for name, answer in answers.items()}

    def answers(
        self, task: Mapping[str, Any], names: Sequence[str] | None = None, **layers: Any
    ) -> dict[str, dict[str, Any]]:
        """What each party's process says of a run: of all parties, if no names are given."""
        names, layers, execution = list(names or self.names), layers or self._layers, str(uuid4())
        documents: dict[str, Any] = {
            "spu_config": {"enable_spu": False},
            "heu_config": {"enable_heu": False},
            "task_config": dict(task),
        } | layers
        if layers.get("spu_config", {}).get("enable_spu", "spu_config" in layers):
            nodes = [{"party": name, "address": self._ports.take()} for name in names]
            documents["spu_config"] = layers["spu_config"] | {"nodes": nodes}
        cluster = {name: {"address": self._ports.take()} for name in names}
        orders = {}
        for name in names:
            mine = {"parties": names, "self_party": name, "cluster": cluster, "job_name": f"{execution}-1"}
            run = {"task_request_id": execution, "sf_init_config": mine} | documents
            if types := self.column_types.get(name):
                run["task_config"] = documents["task_config"] | {"column_types": types}
            orders[name] = {"party_toml": str(self._write_toml(name)), "run": run}
        answers = self._processes.run(orders)
        errors = {n: answer["result_metadata"] for n, answer in answers.items() if failed(answer)}
        assert not errors, errors
        submitted = {name: answer["submitted"] for name, answer in answers.items()}
        assert len(set(submitted.values())) == 1, f"the parties submitted unlike numbers of tasks: {submitted}"
        return answers

    def output(self, party: str, name: str) -> pd.DataFrame:
        return pd.read_csv(self.directory / party / "outputs" / f"{name}.csv")

    def close(self) -> None:
        for held in self._ports.sockets:
            held.close()

    def _write_toml(self, party: str) -> Path:
        """With the tables that are there by now."""
        home = self.directory / party
        tables = ""
        for file in sorted(home.glob("*.csv")):
            alignment = self.alignments.get((party, file.stem), "given")
            tables += f'[datasets.{file.stem}]\npath = "{file.name}"\n'
            tables += f'alignment = "{alignment}"\n' if alignment else ""
            tables += self.options.get((party, file.stem), "") + "\n"
        for (owner, name), entry in self.other_tables.items():
            tables += f"[datasets.{name}]\n{entry}\n" if owner == party else ""
        policy = '[policy]\ntask_types = ["*"]\npeers = ["*"]\nsecurity = "trial"\n'
        policy += f"{self.policies.get(party, '')}\n"
        path = home / "party.toml"
        path.write_text(f'party = "{party}"\n{policy}{tables}')
        return introduce(path, party)
