"""Live sessions of several parties, each a process of its own, that run one task after the other."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

TIMEOUT = 60.0
#: What SS-GLM would have the SPU started with; it is enough for all other tasks.
ENOUGH_FOR_ALL = {"field": "FM128", "fxp_fraction_bits": 40, "fxp_exp_mode": "EXP_TAYLOR", "fxp_exp_iters": 8}


class Session:
    """Tables by party and name, and tasks over them. One error ends it, as it ends a run's process."""

    def __init__(self, directory: Path, parties: list[str], **layers: Any) -> None:
        self.directory, self.parties = directory, parties
        ports = _free_ports(2 * len(parties))
        self.documents: dict[str, Any] = {
            "sf_init_config": {
                "parties": parties,
                "cluster": {p: {"address": f"127.0.0.1:{ports.pop()}"} for p in parties},
                "job_name": "session-1",
            },
            "spu_config": {
                "nodes": [{"party": p, "address": f"127.0.0.1:{ports.pop()}"} for p in parties],
                "runtime_config": {"protocol": "SEMI2K"} | ENOUGH_FOR_ALL,
            },
            "heu_config": {"enable_heu": False},
        } | layers
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def table(self, party: str, name: str, frame: pd.DataFrame) -> None:
        """Must be there before the session starts."""
        (self.directory / party).mkdir(exist_ok=True)
        frame.to_csv(self.directory / party / f"{name}.csv", index=False)

    def start(self, stack: ExitStack) -> None:
        for party in self.parties:
            home = self.directory / party
            tables = "".join(f'[datasets.{f.stem}]\npath = "{f.name}"\n' for f in sorted(home.glob("*.csv")))
            policy = '[policy]\ntask_types = ["*"]\npeers = ["*"]\nsecurity = "trial"\n'
            (home / "party.toml").write_text(f'party = "{party}"\n{policy}{tables}')
            errors = stack.enter_context((home / "log").open("w"))
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.one_session", str(home / "party.toml")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            stack.callback(_end, process)
            self.processes[party] = process

    def run(self, task: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Party to what the task returned there. Raises AssertionError with the parties' errors."""
        for party, process in self.processes.items():
            cluster = self.documents["sf_init_config"] | {"self_party": party}
            documents = self.documents | {"sf_init_config": cluster, "task_config": dict(task)}
            assert process.stdin
            process.stdin.write(json.dumps(documents) + "\n")
            process.stdin.flush()
        answers = {party: _line(process) for party, process in self.processes.items()}
        errors = {party: answer["error"] for party, answer in answers.items() if "error" in answer}
        assert not errors, errors
        return answers

    def output(self, party: str, name: str) -> pd.DataFrame:
        return pd.read_csv(self.directory / party / "outputs" / f"{name}.csv")


@contextmanager
def started(session: Session) -> Iterator[Session]:
    with ExitStack() as stack:
        session.start(stack)
        yield session


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    from threading import Timer

    timer = Timer(TIMEOUT, process.kill)
    timer.start()
    try:
        assert process.stdout
        line = process.stdout.readline()
    finally:
        timer.cancel()
    answer: dict[str, Any] = json.loads(line) if line else {"error": f"ended with {process.wait(TIMEOUT)}"}
    return answer


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(TIMEOUT)
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
