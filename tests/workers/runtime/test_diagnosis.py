"""What whoever looks after a host sees of the worker's processes; and trouble beside a job ends nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rq.job
from redis import Redis
from rq.job import Job

from controlplane.environment import ROOT
from tests.keys import introduce
from workers.runtime import diagnosis
from workers.runtime import worker as workers
from workers.runtime.diagnosis import ended_how
from workers.runtime.worker import PartyWorker


@pytest.fixture
def party_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "party.toml"
    path.write_text('party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n')
    introduce(path)
    monkeypatch.setenv("PARTY_TOML", str(path))
    # PartyWorker closes it anew; what it was comes back afterwards
    monkeypatch.setattr(rq.job, "import_attribute", rq.job.import_attribute)
    monkeypatch.setattr(Job, "send_webhooks", Job.send_webhooks)
    return path


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exit status 0"), (71, "exit status 71"), (-9, "signal 9 (SIGKILL)"), (-35, "signal 35 (of no name)")],
)
def test_an_end_in_words(status: int, words: str) -> None:
    assert ended_how(status) == words


def test_a_crash_leaves_its_stack() -> None:
    crash = "import ctypes; from workers.runtime.diagnosis import write_log; write_log(); ctypes.string_at(0)"
    done = subprocess.run([sys.executable, "-c", crash], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "in string_at" in done.stderr


LOGS = """
import logging
from workers.runtime.diagnosis import begin_job, end_job, write_log
write_log()
own = logging.getLogger("secretflow")
own.propagate = False
own.addHandler(logging.StreamHandler())
begin_job("alice-0b5e-3")
logging.warning("%d rows are %s", 3, "odd")
own.warning(KeyError("k"))
end_job()
logging.warning("at rest")
"""


def test_each_line_of_a_job_s_log_says_whose_it_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOGS], cwd=ROOT, capture_output=True, check=True, text=True, timeout=30
    )
    lines = done.stderr.splitlines()
    assert lines[0].endswith("WARNING root: alice-0b5e-3: 3 rows are odd")
    assert lines[1] == "alice-0b5e-3: 'k'"
    assert lines[2].endswith("WARNING root: at rest")


def test_a_heartbeat_that_fails_is_not_the_last(
    connection: Redis, party_toml: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "HEARTBEAT_INTERVAL", 0.05)
    made = PartyWorker(["alice"], connection=connection)
    made.register_birth()
    connection.delete(made.key)
    monkeypatch.setattr(made, "serialize", broken_once(made.serialize))
    made._alive.set()
    beating = threading.Thread(target=made._beat)
    beating.start()
    try:
        wait_for(lambda: connection.exists(made.key))
    finally:
        made._alive.clear()
        beating.join(10)
        made._starter.close()
    assert "a heartbeat failed; the next one is tried" in caplog.text


@pytest.mark.parametrize("error", [BlockingIOError(11, "try again"), OSError(12, "no memory"), ValueError("odd")])
def test_a_process_that_cannot_start_is_told_once_and_ends_nothing(
    connection: Redis, party_toml: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:  # fmt: skip
    def fail() -> None:
        raise error

    made = PartyWorker(["alice"], connection=connection)
    made.register_birth()
    monkeypatch.setattr(made._starter, "start", fail)
    for _ in range(3):
        made.heartbeat()  # as RQ does while a job computes, in the same thread
    assert caplog.text.count("no process for the next job could be started") == 1
    assert str(error) in caplog.text


def broken_once(function: Callable[..., Any]) -> Callable[..., Any]:
    calls = []

    def call(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise ValueError("nobody thought of this")
        return function(*args, **options)

    return call


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


class Command:
    """A worker as an operator starts it."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "rqworker", "alice"], cwd=ROOT, stdout=out, stderr=out,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        wait_for(lambda: "Listening on alice" in self.text, 90)

    @property
    def text(self) -> str:
        return self.log.read_text()

    def processes(self) -> dict[str, int]:
        """The worker's own, its zygote's, and those of its children, by title."""
        pids = [self.process.pid]
        pids += map(int, Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split())
        for thread in Path(f"/proc/{pids[0]}/task").iterdir():
            pids += map(int, (thread / "children").read_text().split())
        return {Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(): pid for pid in pids}


@pytest.fixture
def command(party_toml: Path, connection: Redis, tmp_path: Path) -> Iterator[Command]:
    made = Command(tmp_path / "worker.log")
    yield made
    made.process.kill()
    made.process.wait(10)


@pytest.mark.pipeline
def test_a_worker_says_what_it_runs_on_what_its_processes_are_and_how_each_ended(command: Command) -> None:
    assert "secretflow 1.14" in command.text
    assert f"{len(os.sched_getaffinity(0))} cores" in command.text
    assert "jobs run each forked from one process that has SecretFlow" in command.text

    roles = ["rqworker alice: process for a job", "rqworker alice: worker", "rqworker alice: zygote"]
    wait_for(lambda: sorted(title.partition(", ")[0] for title in command.processes()) == roles)
    found = {title.partition(", ")[0]: pid for title, pid in command.processes().items()}

    for pid in found.values():  # each tells where it is, and goes on
        before = command.text.count("most recent call first")
        os.kill(pid, signal.SIGUSR1)
        wait_for(lambda: command.text.count("most recent call first") > before)  # noqa: B023
    assert {title.partition(", ")[0]: pid for title, pid in command.processes().items()} == found

    job, zygote = found[roles[0]], found[roles[2]]
    os.kill(job, signal.SIGKILL)
    wait_for(lambda: f"the process for a job (pid {job}) ended: signal 9 (SIGKILL)" in command.text)
    wait_for(lambda: command.processes().get(roles[0], job) != job)
    os.kill(zygote, signal.SIGKILL)
    os.kill(command.processes()[roles[0]], signal.SIGKILL)
    wait_for(lambda: f"the zygote (pid {zygote}) ended: signal 9 (SIGKILL); another one is started" in command.text)
    wait_for(lambda: command.processes().get(roles[2], zygote) != zygote)
    wait_for(lambda: roles[0] in command.processes())

    waiting = command.processes()[roles[0]]
    command.process.terminate()
    assert command.process.wait(20) == 0
    assert f"the process for a job (pid {waiting}) ended: exit status 0" in command.text
    assert re.search(r"the zygote \(pid \d+\) is ended", command.text)


def test_the_host_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_version", lambda name: {"secretflow": "1.14.0b0"}.get(name, "not installed"))
    said = diagnosis.describe_host("jobs run apart")
    assert "secretflow 1.14.0b0, spu not installed" in said
    assert said.endswith("GiB of memory; jobs run apart")
