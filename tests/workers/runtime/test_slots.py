"""Several workers of a party from one command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from controlplane.environment import ROOT, environment
from tests.keys import introduce
from workers.runtime import slots
from workers.runtime.slots import Slots

COUNT = 3


@pytest.fixture
def party_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "party.toml"
    path.write_text('party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n')
    introduce(path)
    monkeypatch.setenv("PARTY_TOML", str(path))
    monkeypatch.setattr(environment, "party_toml", path)
    return path


@pytest.fixture
def command(party_toml: Path, connection: Redis, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "rqworker", "alice", "--slots", str(COUNT)], cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    yield process
    process.kill()
    process.wait(10)


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def ready(connection: Redis) -> set[int]:
    """Pids of the workers that can take a job now."""
    names: set[bytes] = connection.smembers("rq:workers:alice")  # type: ignore[assignment]
    return {int(name.rpartition(b"-")[2]) for name in names if connection.hget(name, "process") == b"ready"}


def alive(connection: Redis, command: subprocess.Popen[bytes]) -> set[int]:
    """Those of them whose processes are the command's: what was killed looks alive for some seconds."""
    return ready(connection) & tree(command.pid)


def tree(pid: int) -> set[int]:
    """A process and all that it started, or that became its children."""
    found = {pid}
    with suppress(OSError):  # it has just ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found |= tree(int(child))
    return found


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.pipeline
def test_each_slot_has_a_worker_that_is_replaced_and_ends_with_the_command(
    command: subprocess.Popen[bytes], connection: Redis, tmp_path: Path
) -> None:
    wait_for(lambda: len(ready(connection)) == COUNT)
    workers = ready(connection)
    # The command itself, and for each slot a worker, its zygote and a process that waits for a job
    assert len(tree(command.pid)) == 1 + 3 * COUNT
    each = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode() for pid in tree(command.pid)}
    assert each[command.pid] == f"rqworker alice: {COUNT} slots"

    killed = min(workers)
    its_own = tree(killed)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: all(map(is_gone, its_own)))
    wait_for(lambda: len(ready(connection) - workers) == 1)
    assert "the worker of slot" in (tmp_path / "log").read_text()

    now = ready(connection) - {killed}
    os.kill(max(now), signal.SIGTERM)  # it ends with status 0, and is missed all the same
    wait_for(lambda: max(now) not in tree(command.pid) and len(alive(connection, command)) == COUNT)
    for pid in alive(connection, command):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(alive(connection, command)) == COUNT)

    before = tree(command.pid)
    command.terminate()
    assert command.wait(30) == 0
    wait_for(lambda: all(map(is_gone, before)))


@pytest.mark.pipeline
def test_nothing_is_left_of_a_command_that_was_killed(command: subprocess.Popen[bytes], connection: Redis) -> None:
    wait_for(lambda: len(ready(connection)) == COUNT)
    everything = tree(command.pid)
    command.kill()
    wait_for(lambda: all(map(is_gone, everything)))


def test_it_gives_up_on_workers_that_end_as_they_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots.zygote, "load", lambda: "a thread that nobody knows")
    monkeypatch.setattr(Slots, "PAUSE", 0)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        made = Slots("alice", 2, lambda _: None, [sys.executable, "-S", "-c", "raise SystemExit(3)"])
        assert made.run() == 1
        ends = Slots("alice", 2, lambda _: None, [sys.executable, "-S", "-c", ""], for_ever=False)
        assert ends.run() == 0
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), handlers, strict=True):
            signal.signal(number, handler)


@pytest.mark.parametrize("count", [0, -1, 257])
def test_it_takes_a_number_that_makes_sense(party_toml: Path, connection: Redis, count: int) -> None:
    with pytest.raises(CommandError, match=f"--slots is {count}; it is a number from 1 to 256."):
        call_command("rqworker", "alice", slots=count)
