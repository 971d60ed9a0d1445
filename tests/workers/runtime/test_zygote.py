"""The process that imports SecretFlow once and forks the processes that compute."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.environment import ROOT
from tests.keys import introduce
from workers.host.party import PartyHost
from workers.runtime.starter import Starter
from workers.runtime.zygote import Zygote

pytestmark = pytest.mark.pipeline

#: What a forked process finds; then it waits for the end of its input.
PROBE = """
import json, os, random, sys, tempfile
import jax, jax.numpy, numpy, threadpoolctl

def main():
    found = {
        "parent": os.getppid(), "session": os.getsid(0) == os.getpid(), "directory": tempfile.gettempdir(),
        "random": [random.random(), float(numpy.random.random())],
        "cores": [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"],
        "jax": float(jax.jit(lambda x: x.sum())(jax.numpy.ones(3))),
        "open": sorted(os.path.basename(os.readlink(f"/proc/self/fd/{n}")) for n in os.listdir("/proc/self/fd")
                       if os.path.exists(f"/proc/self/fd/{n}")),
    }
    os.write(1, json.dumps(found).encode() + b"\\n")
    sys.stdin.read()

def idle():
    os.write(1, b"{}\\n")
    sys.stdin.read()
"""


class Child:
    """A process that the zygote forked."""

    def __init__(self, zygote: Zygote, directory: Path, entry: str = "probe.main") -> None:
        stdin, self.orders = os.pipe()
        answers, stdout = os.pipe()
        pid = zygote.fork(entry, [stdin, stdout, 2], {"TMPDIR": str(directory)})
        assert pid
        self.pid = pid
        os.close(stdin)
        os.close(stdout)
        with os.fdopen(answers) as said:
            self.found: dict[str, Any] = json.loads(said.readline())

    def end(self) -> int:
        os.close(self.orders)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    directory = tmp_path_factory.mktemp("probe")
    (directory / "probe.py").write_text(PROBE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(directory))
        found = Zygote("alice")
        found._start()
    yield found
    found.close()


def test_each_process_is_its_worker_s_own_and_unlike_its_siblings(zygote: Zygote, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    children = [Child(zygote, tmp_path / name) for name in ("a", "b")]
    first, second = (child.found for child in children)
    assert first["parent"] == second["parent"] == os.getpid()
    assert first["session"]
    assert (first["directory"], second["directory"]) == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert set(first["random"]).isdisjoint(second["random"])
    assert {*first["cores"]} == {os.cpu_count()}
    assert first["jax"] == 3
    assert not [name for name in first["open"] if name.startswith("socket:")], "nothing of the zygote's is open in it"
    assert [child.end() for child in children] == [1, 1]


def test_fifty_processes_leave_the_zygote_as_it_was(zygote: Zygote, tmp_path: Path) -> None:
    Child(zygote, tmp_path, "probe.idle").end()
    assert zygote._process
    pid, before = zygote._process.pid, memory(zygote._process.pid)
    for _ in range(50):
        Child(zygote, tmp_path, "probe.idle").end()
    assert zygote._process.pid == pid
    assert memory(pid) - before < 20_000
    assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""


def test_a_zygote_that_was_killed_is_replaced(zygote: Zygote, tmp_path: Path) -> None:
    before = zygote._process
    assert before
    before.kill()
    before.wait(10)
    (tmp_path / "probe.py").write_text(PROBE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        child = Child(zygote, tmp_path)
    assert child.found["jax"] == 3
    child.end()
    assert zygote._process is not before


def test_one_that_was_killed_as_it_began_is_asked_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen

    def killed(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = start(*args, **options)
        process.kill()
        return process

    monkeypatch.setattr(subprocess, "Popen", killed)
    zygote = Zygote("alice")
    with pytest.raises(OSError, match=r"the process that imports SecretFlow ended|reset by peer"):
        zygote.fork("probe.main", [], {})
    assert zygote._process is None, "the next order starts another one"


def test_a_zygote_that_hangs_holds_nobody_up(zygote: Zygote, tmp_path: Path) -> None:
    Child(zygote, tmp_path, "probe.idle").end()
    assert zygote._process
    assert zygote._conversation
    zygote._conversation.settimeout(0.3)
    zygote._process.send_signal(signal.SIGSTOP)
    with pytest.raises(OSError, match="timed out"):
        Child(zygote, tmp_path, "probe.idle")
    assert zygote._process is None


def test_it_says_which_threads_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "with_a_thread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=[60], daemon=True).start()\n"
    )
    code = (
        "import os; from workers.runtime import zygote; from workers.contract.registry import TASK_EXECUTOR_REGISTRY\n"
        "TASK_EXECUTOR_REGISTRY['psi'].preload = ('with_a_thread',)\nos.write(1, zygote.load().encode()); os._exit(0)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, check=True, timeout=60,
    ).stdout.decode()  # fmt: skip
    assert "the libraries started threads that are not known to be safe to fork: 1 x python" in said


def test_a_worker_whose_zygote_must_not_fork_starts_fresh_processes(
    party: PartyHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = Starter("alice-host-1", "redis://127.0.0.1:1", party)
    zygote = starter.zygote
    monkeypatch.setattr(zygote, "_start", lambda: setattr(zygote, "_refusal", "a thread"))
    waiting = starter.start()
    assert isinstance(waiting.process, subprocess.Popen)
    assert waiting.is_ready(60)
    waiting.close()
    assert waiting.process.returncode == 0


def test_what_cannot_be_started_leaves_nothing_behind(party: PartyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    starter = Starter("alice-host-1", "redis://127.0.0.1:1", party)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="the process that imports SecretFlow ended"):
        starter.start()
    starter.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    party.workdirs.remove_abandoned()
    assert list(party.workdirs.root.glob("process-*")) == []


@pytest.fixture
def party(tmp_path: Path) -> PartyHost:
    (tmp_path / "party.toml").write_text('party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n')
    introduce(tmp_path / "party.toml")
    host = PartyHost.load(tmp_path / "party.toml")
    host.prepare_directories()
    return host


def memory(pid: int) -> int:
    """Private memory in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
