"""A worker does what the control plane ordered, once, and drops all else that stands in Redis."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import rq.job
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from controlplane.environment import ROOT
from executions.coordinator.key import own_key
from tests.keys import introduce, voice
from workers.contract.errors import ConfigError
from workers.contract.jobs import TASK_FUNCTION, PartyJob
from workers.contract.keys import ports_wanted, stream_of
from workers.contract.orders import JOB, LASTS, PORTS_WANTED, Order, OrderRefused, signed_order
from workers.contract.signing import Signer
from workers.host.party import PartyHost
from workers.host.taken import TakenOrders
from workers.runtime.intake import Intake
from workers.runtime.worker import PartyWorker

TOML = 'party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n'


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PartyHost:
    path = tmp_path / "party.toml"
    path.write_text(TOML)
    introduce(path)
    monkeypatch.setenv("PARTY_TOML", str(path))
    monkeypatch.setattr(rq.job, "import_attribute", rq.job.import_attribute)
    monkeypatch.setattr(Job, "send_webhooks", Job.send_webhooks)
    found = PartyHost.load(path)
    found.prepare_directories()
    return found


@pytest.fixture
def worker(host: PartyHost, connection: Redis, monkeypatch: pytest.MonkeyPatch) -> PartyWorker:
    made = PartyWorker(["alice"], connection=connection)
    monkeypatch.setattr(made._next, "start", lambda: None)
    return made


def job_of(connection: Redis, signer: Signer | None = None, name: str = "") -> PartyJob:
    execution = str(uuid4())
    job = PartyJob.create(
        TASK_FUNCTION, kwargs={"task_request_id": execution}, id=name or f"alice-{execution}-1", origin="alice",
        connection=connection, serializer=JSONSerializer, timeout=60,
    )  # fmt: skip
    if signer:
        job.sign(signer)
    return job


def put(connection: Redis, job: PartyJob) -> str:
    Queue("alice", connection=connection, serializer=JSONSerializer, job_class=PartyJob).enqueue_job(job)
    return str(job.id)


def next_job(worker: PartyWorker) -> str | None:
    found = worker.dequeue_job_and_maintain_ttl(None)
    return found[0].id if found else None


def refusals(connection: Redis) -> list[dict[str, Any]]:
    told: Any = connection.xrange(stream_of("alice"))
    return [json.loads(fields[b"refusal"]) for _, fields in told if b"refusal" in fields]


def test_it_takes_what_is_signed_and_drops_what_is_not(
    worker: PartyWorker, connection: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    unsigned = put(connection, job_of(connection))
    forged = put(connection, job_of(connection, voice("somebody")))
    connection.set("rq:job:alice-x-1", "no hash")
    connection.rpush("rq:queue:alice", "alice-x-1", "alice-nothing-1")
    right = put(connection, job_of(connection, own_key()))
    assert next_job(worker) == right
    assert next_job(worker) is None
    assert [told["job"] for told in refusals(connection)] == [unsigned], "at most one a second"
    assert refusals(connection)[0]["reason"] == "it has no order of the control plane"
    assert f"job {forged} was refused: it is signed with a key {voice('somebody').key_id}" in caplog.text
    assert "job alice-x-1 was refused: it is no job" in caplog.text
    left = [b"alice-nothing-1", right.encode()]  # RQ's clean-up removes ids without a job
    assert connection.lrange("rq:queue:alice:intermediate", 0, -1) == left


def test_it_takes_a_job_once_also_after_a_restart(
    worker: PartyWorker, connection: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = put(connection, job_of(connection, own_key()))
    assert next_job(worker) == name
    connection.rpush("rq:queue:alice", name, name)
    assert next_job(worker) is None
    again = PartyWorker(["alice"], name="again", connection=connection)
    monkeypatch.setattr(again._next, "start", lambda: None)
    connection.rpush("rq:queue:alice", name)
    assert next_job(again) is None
    assert f"job {name} was refused: this host has taken it before" in caplog.text
    assert connection.exists(f"rq:job:{name}"), "it may be at work"
    assert not refusals(connection)


def test_it_follows_no_command_but_to_stop_a_job(worker: PartyWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "kill", lambda *args: done.append(args))
    monkeypatch.setattr(worker, "kill_horse", lambda *args: done.append(args))
    monkeypatch.setattr(worker, "get_current_job_id", lambda: "alice-x-1")
    for said in (b'{"command": "shutdown"}', b'{"command": "kill-horse"}', b"{", b"[]", b"7", b"\xff"):
        worker.handle_payload({"data": said})
    worker.handle_payload({"data": 7})
    assert done == []
    worker.handle_payload({"data": b'{"command": "stop-job", "job_id": "alice-x-1"}'})
    assert len(done) == 1


def test_it_ends_a_session_for_a_signed_wish_alone_and_once(worker: PartyWorker) -> None:
    wish = signed_order(own_key(), PORTS_WANTED, "alice", "w", {}).encode()
    assert [worker._intake.is_new(PORTS_WANTED, raw) for raw in (None, b"1", wish, wish)] == [False, False, True, False]
    for raw in (
        signed_order(voice("x"), PORTS_WANTED, "alice", "v", {}),
        signed_order(own_key(), PORTS_WANTED, "bob", "v", {}),
    ):
        assert not worker._intake.is_new(PORTS_WANTED, raw.encode())
    assert ports_wanted("alice") == "sessions:ports-wanted:alice"


# --- what was taken


def order(name: str, issued: float | None = None) -> Order:
    return Order(JOB, "alice", name, int(issued or time.time()), {})


def test_notes_of_what_was_taken_go_when_it_has_expired(host: PartyHost) -> None:
    taken = TakenOrders(host.taken_dir)
    taken.take(order("old"))
    [note] = host.taken_dir.iterdir()
    long_ago = time.time() - 2 * LASTS - 120
    os.utime(note, (long_ago, long_ago))
    taken.take(order("new"))
    assert len(list(host.taken_dir.iterdir())) == 2, "looking each time would take long"
    with pytest.raises(OrderRefused, match="taken it before"):
        TakenOrders(host.taken_dir).take(order("new"))
    assert len(list(host.taken_dir.iterdir())) == 1


def test_what_cannot_be_noted_is_not_done(host: PartyHost) -> None:
    host.taken_dir.rmdir()
    with pytest.raises(OrderRefused, match="cannot note on its disk that it takes it"):
        TakenOrders(host.taken_dir).take(order("x"))


def test_an_id_from_outside_makes_no_path(host: PartyHost) -> None:
    TakenOrders(host.taken_dir).take(order("../../x/\0" * 100))
    assert [len(note.name) for note in host.taken_dir.iterdir()] == [40]


# --- who cannot know


def test_it_does_not_start_without_knowing_whose_orders_to_follow(host: PartyHost, tmp_path: Path) -> None:
    (tmp_path / "party.toml").write_text(TOML)
    with pytest.raises(ConfigError, match=r"party.toml does not say whose orders this host follows; .*signing_key"):
        Intake(PartyHost.load(tmp_path / "party.toml"))


def test_it_does_not_start_without_a_key_of_its_own(host: PartyHost, tmp_path: Path, connection: Redis) -> None:
    (tmp_path / "party.signing.key").unlink()
    done = rqworker(tmp_path)
    said = done.communicate(timeout=60)[0]
    assert done.returncode == 1
    assert "alice has no key to sign its reports with; run `manage.py party keys` on its host" in said
    assert "Traceback" not in said


def rqworker(directory: Path) -> subprocess.Popen[str]:
    env = os.environ | {"PARTY_TOML": str(directory / "party.toml")}
    return subprocess.Popen(
        [sys.executable, "manage.py", "rqworker", "alice"], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


# --- a real worker


@pytest.fixture
def running(host: PartyHost, tmp_path: Path, connection: Redis) -> Iterator[subprocess.Popen[str]]:
    process = rqworker(tmp_path)
    end = time.monotonic() + 120
    while not connection.smembers("rq:workers:alice"):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def test_nothing_that_is_written_to_redis_starts_anything_or_ends_the_worker(
    running: subprocess.Popen[str], host: PartyHost, connection: Redis
) -> None:
    before = {path for path in host.output_dir.rglob("*") if ".work/process" not in str(path)}
    job = job_of(connection, own_key())
    job.save()
    altered = str(job.id)
    connection.hset(f"rq:job:{altered}", "success_callback_name", "os.system")
    connection.rpush("rq:queue:alice", altered)
    for junk in (b"", b"{", b"\xff" * 100, b"[" * 100_000):
        connection.rpush("preflight:alice", junk)
        connection.rpush("rq:queue:alice", junk[:200], b"a:b:" + junk[:20], b"")
        connection.publish("rq:pubsub:" + running_name(connection), junk)
    connection.publish("rq:pubsub:" + running_name(connection), '{"command": "shutdown"}')
    end = time.monotonic() + 30
    while connection.llen("rq:queue:alice") or connection.llen("preflight:alice"):
        assert time.monotonic() < end
        time.sleep(0.1)
    connection.delete("rq:queue:alice")
    connection.set("rq:queue:alice", "no list")
    end = time.monotonic() + 30
    while connection.exists("rq:queue:alice"):
        assert time.monotonic() < end, "the worker did not remove it"
        time.sleep(0.1)
    time.sleep(1)
    assert running.poll() is None
    assert connection.pttl(f"rq:worker:{running_name(connection)}") > 0
    assert {path for path in host.output_dir.rglob("*") if ".work/process" not in str(path)} == before
    assert connection.hget(f"rq:job:{altered}", "started_at") in (None, b"")


def running_name(connection: Redis) -> str:
    [key] = connection.smembers("rq:workers:alice")
    return str(key.decode().removeprefix("rq:worker:"))
