"""What a compute process says reaches whoever it is for, whatever else happens at its worker in that moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import rq.job
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from rq.job import Job
from rq.serializers import JSONSerializer

from executions.coordinator.key import own_key
from fixtures.documents import psi_documents
from tests.keys import introduce
from tests.workers.network.test_rendezvous import Ports
from tests.workers.runtime.test_preflight_at_the_host import desk_of
from workers.contract.jobs import TASK_FUNCTION, PartyJob
from workers.contract.keys import requests_of, stream_of, wanted
from workers.contract.orders import PREFLIGHT, signed_order
from workers.contract.reports import WANTED_SECONDS
from workers.host.party import PartyHost
from workers.host.stream import Stream
from workers.runtime import desk as desks
from workers.runtime.compute_process import ComputeProcess
from workers.runtime.keeper import Keeper
from workers.runtime.meeting import MEETING_SECONDS
from workers.runtime.starter import Starter
from workers.runtime.worker import PartyWorker

pytestmark = pytest.mark.pipeline


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PartyHost:
    (tmp_path / "people.csv").write_text("uid\na\nb\n")
    toml = tmp_path / "party.toml"
    toml.write_text(
        'party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n[datasets.people]\npath = "people.csv"\n'
    )
    introduce(toml)
    monkeypatch.setenv("PARTY_TOML", str(toml))
    # PartyWorker closes it anew; what it was comes back afterwards
    monkeypatch.setattr(rq.job, "import_attribute", rq.job.import_attribute)
    monkeypatch.setattr(Job, "send_webhooks", Job.send_webhooks)
    found = PartyHost.load(toml)
    found.prepare_directories()
    return found


@pytest.fixture
def ports() -> Iterator[Ports]:
    found = Ports()
    yield found
    for held in found.sockets:
        held.close()


@pytest.fixture
def starter(host: PartyHost, connection: Redis) -> Iterator[Starter]:
    made = Starter("alice-1", os.environ["REDIS_URL"], host)
    yield made
    made.close()


def documents(ports: Ports, dataset: str = "people") -> dict[str, Any]:
    """A PSI with bob, who is not there."""
    found = psi_documents(dataset)
    found["sf_init_config"] |= {
        "self_party": "alice", "job_name": "x-1", "cluster": {p: {"address": ports.take()} for p in ("alice", "bob")},
    }  # fmt: skip
    found["spu_config"] = {"nodes": [{"party": p, "address": ports.take()} for p in ("alice", "bob")]}
    return found


def request(connection: Redis, found: dict[str, Any]) -> tuple[str, bytes]:
    name = str(uuid4())
    connection.set(wanted(name), 1, ex=WANTED_SECONDS)
    return name, signed_order(own_key(), PREFLIGHT, "alice", name, {"documents": found}).encode()


def reports(connection: Redis, name: str) -> list[dict[str, Any]]:
    """What was reported of a request, signs of life apart."""
    told: Any = connection.xrange(stream_of("alice"))
    entries = [json.loads(fields[b"preflight"]) for _, fields in told if b"preflight" in fields]
    return [entry for entry in entries if entry["preflight"] == name and "checks" in entry]


def wait_for(condition: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def test_a_job_that_comes_during_a_check_does_not_wait_for_it_nor_hear_its_answer(
    host: PartyHost, connection: Redis, ports: Ports
) -> None:
    made = PartyWorker(["alice"], connection=connection)
    made._next.start()
    assert made._next.is_ready(60)
    alive = threading.Event()
    alive.set()
    desk = threading.Thread(target=desk_of(host, connection, made._starter, made.name).serve, args=[alive])
    desk.start()
    try:
        name, raw = request(connection, documents(ports))
        connection.rpush(requests_of("alice"), raw)
        wait_for(lambda: connection.xlen(stream_of("alice")), 20)
        begun = time.monotonic()
        job = PartyJob.create(
            TASK_FUNCTION, kwargs={"task_request_id": str(uuid4())}, id="alice-x-1", origin="alice",
            connection=connection, serializer=JSONSerializer,
        )  # fmt: skip
        job.sign(own_key())
        job.save()
        made.execute_job(job, made.queues[0])
        assert time.monotonic() - begun < MEETING_SECONDS / 2
        assert not reports(connection, name), "its peer is still waited for"
        assert job.get_status() == "failed"
        wait_for(lambda: reports(connection, name), 2 * MEETING_SECONDS)
        [said] = reports(connection, name)
        assert [check["check"] for check in said["checks"]][:3] == ["documents", "ports", "peers"]
    finally:
        alive.clear()
        desk.join(30)
        made.teardown()


def test_an_answer_that_nobody_heard_is_not_taken_for_that_to_the_next_request(
    host: PartyHost, connection: Redis, starter: Starter, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "SIGN_OF_LIFE", 0.5)
    desk = desk_of(host, connection, starter)
    _, unheard = request(connection, documents(ports))
    real, told = Stream.report, []

    def redis_goes_away(*args: Any) -> None:
        told.append(args)
        if len(told) == 2:  # the first sign of life after the beginning
            raise RedisConnectionError
        real(*args)

    monkeypatch.setattr(Stream, "report", redis_goes_away)
    desk._answer(unheard)
    name, raw = request(connection, documents(ports, dataset="absent"))
    desk._answer(raw)
    [said] = reports(connection, name)
    assert "alice has no dataset 'absent'" in said["checks"][-1]["error"]
    desk._leave(desk._take_idle(), is_of_use=False)


KEEPS = """
import json, sys, time
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps({"session": 1}), flush=True)
time.sleep(6)
"""


def test_no_alarm_comes_between_an_outcome_and_what_is_done_about_it(
    host: PartyHost, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = PartyWorker(["alice"], connection=connection)
    made.job_monitoring_interval = 1
    holder = subprocess.Popen([sys.executable, "-c", KEEPS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    kept = []

    def keep(*args: Any) -> None:
        time.sleep(1.5)
        kept.append(args)

    try:
        made._computing = ComputeProcess(holder, "a job")
        made._computing.tell({"job_id": "alice-x-1"})
        monkeypatch.setattr(Keeper, "keep", lambda _, *args: keep(*args))
        made._horse_pid = holder.pid
        job: Any = SimpleNamespace(id="x", timeout=60, key="x", get_status=lambda: "finished", started_at=None)
        execution: Any = SimpleNamespace(id="e", heartbeat=lambda *_: None)
        monkeypatch.setattr(made, "maintain_heartbeats", lambda *_: None)
        made.monitor_work_horse(job, made.queues[0], execution)
        assert [said for _, said in kept] == [{"session": 1}]
    finally:
        holder.kill()
        holder.communicate(timeout=10)


def test_lines_that_come_together_are_read_one_by_one() -> None:
    code = "import sys; sys.stdin.readline(); print('ready', '[1]', '[2]', sep='\\n', flush=True)"
    both = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    process = ComputeProcess(both, "a test")
    assert process.ask({}, 10, lambda: None) == [1]
    assert process.outcome(10) == [2]
    assert process.outcome(10) is None
    process.close()
