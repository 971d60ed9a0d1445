"""What a worker tells of its host, and that a disk that hangs does not hold up its heartbeat."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.workers.runtime.test_worker import RUN, job_of, party_toml, worker
from workers.runtime.resources import Resources

__all__ = ["party_toml"]


def until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_looks_at_memory_disk_and_cpu(tmp_path: Path) -> None:
    found = Resources(tmp_path).look()
    assert 2**20 < found["memory_free"] <= found["memory_total"] < 2**50
    assert 0 < found["disk_free"] <= found["disk_total"]
    assert found["load"] >= 0
    assert found["cpus"] >= 1


def test_it_goes_on_where_the_directory_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resources, "INTERVAL", 0.02)
    resources = Resources(tmp_path / "later")
    resources.start()
    time.sleep(0.1)
    assert resources.told == {}
    (tmp_path / "later").mkdir()
    until(lambda: "disk_free" in resources.told)
    resources.end()


def test_a_heartbeat_tells_it_and_does_not_wait_for_a_disk_that_hangs(
    connection: Redis, party_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    look = shutil.disk_usage

    def slow(path: Any) -> Any:
        hangs.wait(20)
        return look(path)

    monkeypatch.setattr(shutil, "disk_usage", slow)
    monkeypatch.setattr("workers.runtime.worker.HEARTBEAT_INTERVAL", 0.05)
    made = worker(connection, ["alice"])
    made.register_birth()
    made._alive.set()
    made._resources.start()
    beating = threading.Thread(target=made._beat)
    beating.start()
    try:
        until(lambda: connection.hget(made.key, "signs_with"))
        assert connection.hget(made.key, "disk_free") is None
        hangs.set()
        until(lambda: connection.hget(made.key, "disk_free"))
        assert float(connection.hget(made.key, "memory_free") or 0) > 2**20
    finally:
        hangs.set()
        made._alive.clear()
        made._resources.end()
        beating.join(10)
        made._starter.close()


def test_a_heartbeat_names_the_job_at_hand(
    connection: Redis, party_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The party's page shows it, and by it the coordinator finds that a worker has left a job."""
    monkeypatch.setattr("workers.runtime.worker.HEARTBEAT_INTERVAL", 0.05)
    made = worker(connection, ["alice"])
    made.register_birth()
    made._alive.set()
    beating = threading.Thread(target=made._beat)
    beating.start()
    try:
        until(lambda: connection.hget(made.key, "current_job") == b"")
        made.prepare_execution(job_of(connection))
        until(lambda: connection.hget(made.key, "current_job") == f"alice-{RUN}".encode())
        assert connection.hget(made.key, "state") == b"busy"
        made.executions.clear()
        until(lambda: connection.hget(made.key, "current_job") == b"")
    finally:
        made._alive.clear()
        beating.join(10)
        made._starter.close()
