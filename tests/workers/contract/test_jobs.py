"""What may pass through RQ: whoever can write to Redis can write any job's hash, and gains nothing by it."""

from __future__ import annotations

import importlib.util
import json
import pickle
import socket
import sys
import threading
import zlib
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import django_rq
import pytest
import rq.job
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from rq import Queue
from rq.command import send_stop_job_command
from rq.exceptions import DeserializationError, InvalidJobOperation
from rq.executions import Execution
from rq.job import Job
from rq.registry import clean_registries
from rq.serializers import JSONSerializer
from rq.utils import import_attribute
from rq.worker import Worker

from workers.contract.jobs import TASK_FUNCTION, PartyJob, install_gate
from workers.contract.orders import OrderRefused

JOB_ID = "alice-0b5e-1"
CALLBACKS = ("success_callback", "failure_callback", "stopped_callback")


class Hostile:
    """A module that leaves a mark when it is imported, and another one when its function is called."""

    name: ClassVar[str] = "hostile_module_of_the_tests"
    function: ClassVar[str] = f"{name}.strike"

    def __init__(self, directory: Path) -> None:
        self.imported, self.called = directory / "imported", directory / "called"
        (directory / f"{self.name}.py").write_text(
            f"from pathlib import Path\nPath({str(self.imported)!r}).touch()\n"
            f"def strike(*args, **kwargs): Path({str(self.called)!r}).touch()\n"
        )

    def did(self) -> list[str]:
        return [path.name for path in (self.imported, self.called) if path.exists()]


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hostile:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, Hostile.name, raising=False)
    return Hostile(tmp_path)


@pytest.fixture
def open_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """RQ as it is without us; Django's start has closed the gate in this process."""
    spec = importlib.util.spec_from_file_location("rq._job_as_shipped", rq.job.__file__)
    assert spec
    assert spec.loader
    shipped = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shipped)
    monkeypatch.setattr(rq.job, "import_attribute", import_attribute)
    monkeypatch.setattr(Job, "send_webhooks", shipped.Job.send_webhooks)


def call(function: Any = TASK_FUNCTION, instance: Any = None) -> bytes:
    return json.dumps([function, instance, [], {}]).encode()


def write(connection: Redis, data: bytes = call(), **fields: Any) -> None:
    """A job that a worker is said to have died with, long ago: the next clean-up finds it."""
    mapping = {"data": data, "status": "started", "origin": "alice", "created_at": "2026-01-01T00:00:00.000000Z"}
    connection.hset(f"rq:job:{JOB_ID}", mapping=mapping | fields)
    connection.zadd("rq:wip:alice", {f"{JOB_ID}:execution": 1})


def fetch(connection: Redis) -> PartyJob:
    return PartyJob.fetch(JOB_ID, connection=connection, serializer=JSONSerializer)


def party_queue(connection: Redis, job_class: type[Job] = PartyJob) -> Queue:
    return Queue("alice", connection=connection, serializer=JSONSerializer, job_class=job_class)


def perform(connection: Redis) -> PartyJob:
    """As a compute process does."""
    job, queue = fetch(connection), party_queue(connection)
    horse = Worker(
        [queue], name="alice-host-1", connection=connection, job_class=PartyJob, serializer=JSONSerializer,
        prepare_for_work=False, log_job_description=False,
    )  # fmt: skip
    with connection.pipeline() as pipeline:
        execution = Execution.create(job, ttl=60, pipeline=pipeline, worker_name=horse.name)
        pipeline.execute()
    horse.execution = execution
    horse.perform_job(job, queue, execution)
    return fetch(connection)


#: Every way on which this system, its web pages and its workers come by a job that is in Redis.
LOOKS: dict[str, Callable[[Redis], object]] = {
    "count of a registry": lambda c: django_rq.get_queue("alice").started_job_registry.count,
    "ids of a registry": lambda c: party_queue(c).started_job_registry.get_job_ids(),
    "clean-up by the web's queue": lambda c: clean_registries(django_rq.get_queue("alice")),
    "clean-up by a party's queue": lambda c: clean_registries(party_queue(c)),
    "clean-up by any queue": lambda c: clean_registries(party_queue(c, Job)),
    "stop command": lambda c: send_stop_job_command(c, JOB_ID, serializer=JSONSerializer),
    "run": perform,
}
CLEAN_UPS = [name for name in LOOKS if name not in ("stop command", "run")]


# --- imports


@pytest.mark.parametrize("look", CLEAN_UPS)
def test_it_would_run_what_a_hash_names_if_there_were_no_gate(
    connection: Redis, hostile: Hostile, open_gate: None, look: str
) -> None:
    """Else the tests below show nothing."""
    write(connection, failure_callback_name=hostile.function)
    LOOKS[look](connection)
    assert hostile.did() == ["imported", "called"]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("data", [call(), call(Hostile.function), call("strike", Hostile.function)], ids=range(3))
def test_it_imports_nothing_that_a_hash_names(
    connection: Redis, hostile: Hostile, open_gate: None, look: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_gate()
    monkeypatch.setattr("workers.runtime.task_run.execute_secretflow_task", dict)
    write(connection, data, **{f"{name}_name": hostile.function for name in CALLBACKS})
    with suppress(InvalidJobOperation):
        LOOKS[look](connection)
    assert hostile.did() == []
    assert hostile.name not in sys.modules


def test_it_has_closed_the_gate_in_the_web_process() -> None:
    assert rq.job.import_attribute is not import_attribute
    with pytest.raises(OrderRefused):
        rq.job.import_attribute("os.system")


def test_it_imports_the_task_function(open_gate: None) -> None:
    from workers.runtime.task_run import execute_secretflow_task

    install_gate()
    assert rq.job.import_attribute(TASK_FUNCTION) is execute_secretflow_task


NEAR = [
    "os.system",
    "",
    TASK_FUNCTION + " ",
    TASK_FUNCTION.upper(),
    TASK_FUNCTION + ".__globals__",
    "workers.runtime.task_run",
]


@given(name=st.sampled_from(NEAR) | st.text() | st.none() | st.lists(st.text(), max_size=2))
def test_it_refuses_every_other_name(name: Any) -> None:
    with pytest.raises(OrderRefused):
        rq.job.import_attribute(name)


@pytest.mark.parametrize("attribute", CALLBACKS)
@pytest.mark.parametrize("job_class", [Job, PartyJob])
def test_it_refuses_every_callback(
    connection: Redis, hostile: Hostile, open_gate: None, attribute: str, job_class: type[Job]
) -> None:
    write(connection, **{f"{attribute}_name": hostile.function})
    install_gate()
    job = job_class.fetch(JOB_ID, connection=connection, serializer=JSONSerializer)
    with pytest.raises(OrderRefused, match="not on the allow-list"):
        getattr(job, attribute)
    assert hostile.did() == []


@given(
    function=st.sampled_from([TASK_FUNCTION, *NEAR]) | st.none() | st.integers() | st.lists(st.text(), max_size=1),
    instance=st.none() | st.sampled_from(["", 0, False, [], {}, "text", {"a": 1}]),
)
def test_it_runs_the_task_function_and_nothing_else(function: Any, instance: Any) -> None:
    job = PartyJob(JOB_ID, connection=Redis(), serializer=JSONSerializer)
    job.data = call(function, instance)
    if (function, instance) == (TASK_FUNCTION, None):
        assert job.func.__name__ == "execute_secretflow_task"
        return
    with pytest.raises(OrderRefused):
        job.func  # noqa: B018


def test_it_refuses_other_functions_without_the_gate_as_well(
    connection: Redis, hostile: Hostile, open_gate: None
) -> None:
    write(connection, call(hostile.function))
    with pytest.raises(OrderRefused):
        fetch(connection).func  # noqa: B018
    # a method of what came with the job
    write(connection, call("format", "{0}"))
    with pytest.raises(OrderRefused):
        fetch(connection).func  # noqa: B018
    assert hostile.did() == []


def test_it_reports_a_refused_job_as_failed(connection: Redis, hostile: Hostile, open_gate: None) -> None:
    install_gate()
    write(connection, call(hostile.function), failure_callback_name=hostile.function)
    job = perform(connection)
    assert job.is_failed
    latest = job.latest_result()
    assert latest
    assert "OrderRefused" in str(latest.exc_string)
    assert hostile.did() == []


@pytest.mark.parametrize("gate", [False, True])
def test_it_calls_no_address_that_a_hash_names(connection: Redis, open_gate: None, gate: bool) -> None:
    if gate:
        install_gate()
    called = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def serve() -> None:
            with suppress(OSError), server.accept()[0] as caller:
                called.set()
                caller.recv(4096)
                caller.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        write(connection, webhooks=json.dumps([{"url": url, "status": "failed", "job_status": "failed"}]))
        assert fetch(connection).webhooks, "the format of webhooks has changed"
        clean_registries(party_queue(connection))
        assert called.wait(0.3 if gate else 5) is not gate
        server.shutdown(socket.SHUT_RDWR)
        thread.join(6)
        assert not thread.is_alive()


# --- pickle


class Bomb:
    """Whoever unpickles it touches a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda data: data,
    "compressed": zlib.compress,
    "compressed twice": lambda data: zlib.compress(zlib.compress(data)),
    "broken off": lambda data: zlib.compress(data)[:-3],
}


def plant(connection: Redis, data: bytes) -> None:
    write(connection, data, meta=data, result=data)
    fields = {"type": "1", "created_at": "2026-01-01T00:00:00.000000Z", "return_value": b64encode(data).decode()}
    connection.xadd(f"rq:results:{JOB_ID}", fields)


def look_at_everything(job: Job) -> None:
    for name in ("func", "args", "kwargs", "instance", "meta", "return_value", "latest_result", "results"):
        with suppress(Exception):
            found = getattr(job, name)
            if callable(found):
                found()


@pytest.mark.parametrize("field", ["data", "meta", "result"])
def test_it_would_unpickle_with_rqs_default(connection: Redis, tmp_path: Path, field: str) -> None:
    """Else the tests below show nothing."""
    mark = tmp_path / "unpickled"
    write(connection, **{field: pickle.dumps(Bomb(mark))})
    with suppress(DeserializationError, OrderRefused, TypeError):
        look_at_everything(Job.fetch(JOB_ID, connection=connection))
    assert mark.exists()


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("look", [*LOOKS, "every attribute"])
def test_it_never_unpickles(
    connection: Redis, tmp_path: Path, look: str, packed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle loader was reached")

    mark = tmp_path / "unpickled"
    plant(connection, PACKED[packed](pickle.dumps(Bomb(mark))))
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr("rq.serializers.DefaultSerializer.loads", refuse)
    with suppress(DeserializationError, InvalidJobOperation):
        look_at_everything(fetch(connection)) if look == "every attribute" else LOOKS[look](connection)
    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"{}",
        b"null",
        b'["a"]',
        b"[" * 100_000,
        b"\xff" * 50,
        b'["a", null, [], {}, 5]',
        b"x\x9c" + b"\0" * 9,
    ],
    ids=lambda data: repr(data[:12]),
)
@pytest.mark.parametrize("pack", [lambda data: data, zlib.compress], ids=["raw", "compressed"])
def test_it_refuses_what_is_no_call(connection: Redis, data: bytes, pack: Callable[[bytes], bytes]) -> None:
    write(connection, pack(data))
    with pytest.raises((DeserializationError, OrderRefused)):
        fetch(connection).func  # noqa: B018
    assert perform(connection).is_failed


def test_it_reads_what_the_dispatcher_writes(connection: Redis) -> None:
    job = PartyJob.create(
        TASK_FUNCTION, kwargs={"a": 1}, id=JOB_ID, connection=connection, serializer=JSONSerializer, origin="alice"
    )
    job.save()
    read = fetch(connection)
    assert (read.func_name, read.instance, list(read.args), read.kwargs) == (TASK_FUNCTION, None, [], {"a": 1})
    assert json.loads(zlib.decompress(connection.hget(job.key, "data"))) == [TASK_FUNCTION, None, [], {"a": 1}]
