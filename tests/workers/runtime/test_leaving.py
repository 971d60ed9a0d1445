"""Processes whose jobs are done: nobody waits for their end, and each one ends."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from workers.runtime.compute_process import ComputeProcess
from workers.runtime.leaving import Leaving
from workers.runtime.worker import PartyWorker


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[ComputeProcess]]:
    """One ends when its standard input does; the other one does not end, and its directory is there."""
    (tmp_path / "stuck").mkdir()
    made = []
    for name, then in (("done", "sys.stdin.read()"), ("stuck", "time.sleep(60)")):
        code = f"import sys, time; print('\"done\"', flush=True); {then}"
        process = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        made.append(ComputeProcess(process, f"job {name}", tmp_path / name))
    yield made
    for each in made:
        each.process.kill()
        each.process.wait()


def test_a_worker_does_not_wait_for_a_process_whose_job_is_done(processes: list[ComputeProcess]) -> None:
    done, _ = processes
    stdin, done.process.stdin = done.process.stdin, io.BytesIO()  # whose end is what it waits for
    worker = SimpleNamespace(
        _outcome=lambda: done.outcome(10), _computing=done, _leaving=Leaving(), horse_pid=done.process.pid
    )
    assert PartyWorker.wait_for_process(worker) == (done.process.pid, 0, None)
    assert done.process.poll() is None
    assert stdin
    stdin.close()
    worker._leaving.close()
    assert done.process.poll() == 0


def test_each_one_ends_and_the_log_says_how(
    processes: list[ComputeProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(ComputeProcess, "PATIENCE", 1)
    leaving = Leaving()
    for each in processes:
        assert each.outcome(10) == "done"
        leaving.add(each)
    leaving.close()
    assert not (tmp_path / "stuck").exists()
    said = {record.message.partition(" (pid")[0]: record.message.partition(" ended: ")[2] for record in caplog.records}
    late = "signal 9 (SIGKILL), as it had not ended by itself after 1 s"
    assert said == {"the process for job done": "exit status 0", "the process for job stuck": late}


def test_it_does_without_threads_where_there_are_none(
    processes: list[ComputeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done, _ = processes
    Leaving().add(done)
    assert done.process.poll() == 0
