"""The worker of a party: its processes live and die together, and it says what is wrong before it starts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rq.job
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from rq import Queue
from rq.job import Job
from rq.serializers import DefaultSerializer, JSONSerializer
from rq.worker import Worker

from controlplane.environment import ROOT, environment
from executions.coordinator.key import own_key
from tests.keys import introduce
from workers.contract.errors import ERRORS, ConfigError
from workers.contract.jobs import TASK_FUNCTION, PartyJob
from workers.contract.keys import stream_of
from workers.contract.orders import OrderRefused
from workers.contract.run_name import RunName
from workers.host.party import PartyHost
from workers.network.links import LINK_LOST
from workers.runtime.compute_process import ABANDONED, LINKS_STAY, ComputeProcess
from workers.runtime.exit_status import describe_exit
from workers.runtime.journal import Journal
from workers.runtime.limits import EXCEEDED
from workers.runtime.starter import Starter
from workers.runtime.worker import WORKER_SEQUENCE, PartyWorker

TOML = 'party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n'
SECRET_URL = "redis://user:secretpw@127.0.0.1:1/0"

RUN = RunName("0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e", 3)


@pytest.fixture
def party_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "party.toml"
    path.write_text(TOML)
    introduce(path)
    monkeypatch.setenv("PARTY_TOML", str(path))
    monkeypatch.setattr(environment, "party_toml", path)
    # PartyWorker closes it anew; what it was comes back afterwards
    monkeypatch.setattr(rq.job, "import_attribute", rq.job.import_attribute)
    monkeypatch.setattr(Job, "send_webhooks", Job.send_webhooks)
    return path


def is_gone(pid: int) -> bool:
    """Ended; perhaps not yet reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pid: int, limit: float = 5) -> None:
    end = time.monotonic() + limit
    while not is_gone(pid):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            pytest.fail(f"process {pid} lived on")
        time.sleep(0.02)


# --- how a process ended


@pytest.mark.parametrize(
    ("code", "words", "error_type"),
    [
        ("os.kill(os.getpid(), 9)", "killed (signal 9", "ResourceError"),
        ("os.abort()", "aborted (signal 6)", "NetworkError"),
        ("os.kill(os.getpid(), 11)", "crashed (signal 11)", "AlgorithmError"),
        ("os.kill(os.getpid(), 15)", "was told to end (signal 15)", "ResourceError"),
        ("os._exit(1)", "exit status 1", "NetworkError"),
        ("os._exit(255)", "exit status 255", "NetworkError"),
        ("os._exit(71)", "hung as they connected", "NetworkError"),
    ],
)
def test_it_says_how_a_process_ended(code: str, words: str, error_type: str) -> None:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", f"import os; {code}"], os.environ)
    _, status = os.waitpid(pid, 0)
    text, found = describe_exit(os.waitstatus_to_exitcode(status))
    assert words in text
    assert found == error_type


EXITS = st.integers(1, 255).filter(lambda code: code not in (ABANDONED, LINK_LOST, *EXCEEDED))


@given(status=st.integers(-64, -1) | EXITS)
def test_it_says_something_of_every_end(status: int) -> None:
    text, error_type = describe_exit(status)
    assert text.startswith("the computing process ")
    assert str(abs(status)) in text
    assert error_type in ERRORS


# --- the worker


def worker(connection: Redis, queues: list[Any], **options: Any) -> PartyWorker:
    return PartyWorker(queues, connection=connection, **options)


@pytest.mark.parametrize("queues", [["bob"], [], ["alice", "bob"], ["alice", "alice"], ["default"], ["Alice"]])
def test_it_serves_the_queue_of_its_own_party_alone(connection: Redis, party_toml: Path, queues: list[str]) -> None:
    for named in (queues, [Queue(name, connection=connection) for name in queues]):
        with pytest.raises(ConfigError) as caught:
            worker(connection, named)
        assert str(caught.value) == f"{party_toml} is of party alice: start this worker as `rqworker alice`"
    assert not connection.keys("*")


def test_it_is_named_after_party_host_and_process(connection: Redis, party_toml: Path) -> None:
    assert worker(connection, ["alice"]).name == f"alice@{socket.gethostname()}-{os.getpid()}"
    assert worker(connection, ["alice"], name="chosen").name == "alice@chosen"


@pytest.mark.parametrize("serializer", ["rq.serializers.DefaultSerializer", DefaultSerializer, None, "pickle"])
def test_it_speaks_json_whatever_it_is_told(connection: Redis, party_toml: Path, serializer: Any) -> None:
    """``rqworker --serializer`` defaults to pickle, and ignores the queue's."""
    pickling = Queue("alice", connection=connection, serializer=DefaultSerializer, job_class=Job)
    for queues in (["alice"], [pickling]):
        made = worker(connection, queues, serializer=serializer, job_class=Job, job_monitoring_interval=99)
        assert (made.serializer, made.job_class) == (JSONSerializer, made._intake.job_class)
        [queue] = made.queues
        assert (queue.name, queue.serializer, queue.job_class) == ("alice", JSONSerializer, made._intake.job_class)
        assert made.job_monitoring_interval == 2


def test_it_reads_no_pickled_job(connection: Redis, party_toml: Path) -> None:
    made = worker(connection, ["alice"])
    pickling = Queue("alice", connection=connection, serializer=DefaultSerializer)
    pickled = pickling.enqueue_call("os.getpid", job_id="alice-1")
    with pytest.raises(OrderRefused):
        made.queues[0].fetch_job(pickled.id)


def test_it_closes_the_gate(connection: Redis, party_toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rq.job, "import_attribute", rq.utils.import_attribute)
    worker(connection, ["alice"])
    with pytest.raises(OrderRefused):
        rq.job.import_attribute("os.system")


def test_it_prepares_its_directories(connection: Redis, party_toml: Path) -> None:
    worker(connection, ["alice"])
    assert sorted(p.name for p in (party_toml.parent / "outputs").iterdir()) == [".journal", ".logs", ".taken", ".work"]


def test_it_notices_a_redis_that_came_back_empty_though_another_wrote_to_it_first(
    connection: Redis, party_toml: Path
) -> None:
    made = worker(connection, ["alice"])
    Journal(made.host.journal_dir).append(f"{RUN}.jsonl", ['{"sequence":1}'])
    made.register_birth()
    made._alive.set()
    beating = threading.Thread(target=made._beat)
    beating.start()

    def wait_for_the_event() -> None:
        end = time.monotonic() + 15
        while not any(b"event" in (fields or {}) for _, fields in connection.xrange(stream_of("alice"))):
            assert time.monotonic() < end, "it was not delivered again"
            time.sleep(0.05)

    try:
        wait_for_the_event()
        with connection.pipeline(transaction=True) as pipeline:
            pipeline.delete(stream_of("alice"), made.key)
            # RQ's own heartbeat, or a job that notes something of its worker
            pipeline.hset(made.key, "last_heartbeat", "now")
            pipeline.execute()
        wait_for_the_event()
    finally:
        made._alive.clear()
        beating.join(10)


def job_of(connection: Redis, **kwargs: Any) -> PartyJob:
    job = PartyJob.create(
        TASK_FUNCTION,
        kwargs=kwargs,
        id=f"alice-{RUN}",
        origin="alice",
        connection=connection,
        serializer=JSONSerializer,
    )
    job.sign(own_key())
    return job


ORDER = {
    "task_request_id": RUN.execution,
    "sf_init_config": {"job_name": str(RUN)},
    "task_config": {"task_type": "psi"},
}


def ended(made: PartyWorker, status: int | None) -> None:
    made._computing = SimpleNamespace(process=SimpleNamespace(returncode=status))  # type: ignore[assignment]


def test_a_job_whose_end_could_not_be_noted_is_not_taken_for_the_next_one(
    connection: Redis, party_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, job = worker(connection, ["alice"]), job_of(connection, **ORDER)
    job.save()
    monkeypatch.setattr(made._next, "start", lambda: None)

    def redis_goes_away(self: Worker, job: Any, queue: Any) -> None:
        made.prepare_execution(job)
        raise RedisConnectionError

    monkeypatch.setattr(Worker, "execute_job", redis_goes_away)
    made.execute_job(job, made.queues[0])
    next_one = made.prepare_execution(job)
    assert made.execution is next_one


def test_it_begins_though_redis_goes_away_as_it_does(
    connection: Redis, party_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, register = worker(connection, ["alice"]), Worker.register_birth
    tries = []

    def redis_goes_away(self: Worker) -> None:
        register(self)
        tries.append(1)
        if len(tries) == 1:
            raise RedisConnectionError  # instead of the answer

    monkeypatch.setattr(Worker, "register_birth", redis_goes_away)
    made.register_birth()
    assert len(tries) == 2
    assert connection.exists(made.key)


def test_it_reports_a_killed_job_and_tidies_up_behind_it(connection: Redis, party_toml: Path) -> None:
    made = worker(connection, ["alice"])
    workdir = made.host.workdirs.of_run(RUN)
    made.host.workdirs.claim(workdir).close()
    ended(made, -signal.SIGKILL)
    made._report_killed(job_of(connection, **ORDER))
    [(_, fields)] = connection.xrange(stream_of("alice"))
    event = json.loads(fields[b"event"])
    said = {key: event[key] for key in ("task_request_id", "status", "party", "attempt", "sequence", "task_name")}
    assert said == {
        "task_request_id": RUN.execution, "status": "FAILURE", "party": "alice", "attempt": 3,
        "sequence": WORKER_SEQUENCE, "task_name": "secretflow.execute_psi_task",
    }  # fmt: skip
    assert (event["data"]["error_type"], event["data"]["stage"]) == ("ResourceError", "cleanup")
    assert "killed (signal 9" in event["data"]["error"]
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("number", "crashed"), [(signal.SIGKILL, None), (signal.SIGSEGV, True), (signal.SIGABRT, True)]
)
def test_it_says_whether_a_process_crashed(
    connection: Redis, party_toml: Path, number: signal.Signals, crashed: bool | None
) -> None:
    made = worker(connection, ["alice"])
    ended(made, -number)
    made._report_killed(job_of(connection, **ORDER))
    [(_, fields)] = connection.xrange(stream_of("alice"))
    assert json.loads(fields[b"event"])["data"].get("crashed") is crashed


def test_it_says_that_it_stopped_a_process_itself(connection: Redis, party_toml: Path) -> None:
    for stopped_job, told_to_stop, said in (
        (f"alice-{RUN}", None, "stopped at the control plane's request"),
        (None, datetime.now(), "stopped: its worker was told to stop at once"),
        (None, None, "the computing process was killed (signal 9: by hand, or by the kernel for want of memory)"),
    ):
        connection.delete(stream_of("alice"))
        made = worker(connection, ["alice"])
        made._stopped_job_id, made._shutdown_requested_date = stopped_job, told_to_stop
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        made._horse_pid = child.pid
        made.kill_horse()
        child.wait(10)
        ended(made, -signal.SIGKILL)
        made._report_killed(job_of(connection, **ORDER))
        [(_, fields)] = connection.xrange(stream_of("alice"))
        assert json.loads(fields[b"event"])["data"]["error"] == said


WATCHED = """
import sys, time
from workers.contract.connection import connect
from workers.runtime.compute import end_when_abandoned
end_when_abandoned(connect(sys.argv[1]), ["watched-1", "watched-2"], patience=0.2, interval=0.1)
print("watching", flush=True)
time.sleep(30)
"""


@pytest.mark.parametrize("gone", ["watched-1", "watched-2"])
def test_a_process_ends_itself_when_its_worker_or_its_job_is_gone(connection: Redis, gone: str) -> None:
    connection.mset({"watched-1": 1, "watched-2": 1})
    process = run_parent(WATCHED, os.environ["REDIS_URL"])
    assert process.stdout
    assert process.stdout.readline() == b"watching\n"
    try:
        time.sleep(1)
        assert process.poll() is None
        connection.delete(gone)
        assert process.wait(10) == ABANDONED
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_a_process_goes_on_while_its_worker_cannot_renew_its_key(connection: Redis) -> None:
    connection.mset({"watched-1": 1, "watched-2": 1})
    process = run_parent(WATCHED, os.environ["REDIS_URL"])
    assert process.stdout
    assert process.stdout.readline() == b"watching\n"
    try:
        connection.pexpire("watched-1", 200)
        connection.config_set("min-replicas-to-write", 1)
        time.sleep(1)
        assert not connection.exists("watched-1")
        assert process.poll() is None
        connection.config_set("min-replicas-to-write", 0)
        assert process.wait(10) == ABANDONED
    finally:
        connection.config_set("min-replicas-to-write", 0)
        process.kill()
        process.communicate(timeout=10)


def test_it_says_that_a_job_whose_links_hung_as_they_ended_has_released_everything(
    connection: Redis, party_toml: Path
) -> None:
    made = worker(connection, ["alice"])
    ended(made, -LINKS_STAY)
    made._report_killed(job_of(connection, **ORDER))
    ((_, fields),) = connection.xrange(stream_of("alice"))
    event = json.loads(fields[b"event"])
    assert (event["status"], event["data"]) == ("SUCCESS", event["data"] | {"stage": "cleanup"})
    assert "error" not in event["data"]


@pytest.mark.parametrize("status", [0, None])
def test_it_does_not_report_a_job_that_ended_by_itself(connection: Redis, party_toml: Path, status: int | None) -> None:
    made = worker(connection, ["alice"])
    ended(made, status)
    made._report_killed(job_of(connection, **ORDER))
    assert connection.xlen(stream_of("alice")) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"sf_init_config": None},
        {"sf_init_config": {"job_name": "other-3"}},
        {"sf_init_config": {"job_name": f"{RUN.execution}-4"}},
        {"task_config": {}},
        {"task_request_id": "../.."},
    ],
)
def test_it_reports_nothing_for_what_is_no_job_of_ours(
    connection: Redis, party_toml: Path, change: dict[str, Any]
) -> None:
    made = worker(connection, ["alice"])
    ended(made, -signal.SIGKILL)
    made._report_killed(job_of(connection, **(ORDER | change)))
    assert connection.xlen(stream_of("alice")) == 0
    assert party_toml.exists()


# --- the compute process

PARENT = """
import os, sys, time
from workers.host.party import PartyHost
from workers.runtime.starter import Starter
starter = Starter("alice-host-1", sys.argv[1], PartyHost.load(sys.argv[2]))
waiting, zygote = starter.start(), starter.zygote
keeper = os.fork()  # keeps the pipe open: its end is not what ends the compute process
if not keeper:
    time.sleep(60)
    os._exit(0)
print(zygote._process.pid, waiting.process.pid, keeper, waiting.is_ready(60), flush=True)
time.sleep(60)
"""
CHILD = """
import os, sys, time
from workers.runtime.zygote import die_with_parent
die_with_parent(os.getppid())
print(os.getpid(), flush=True)
time.sleep(60)
"""
SPAWNER = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {CHILD!r}])
time.sleep(60)
"""


def run_parent(code: str, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *args], cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )


def test_it_dies_with_its_parent() -> None:
    parent = run_parent(SPAWNER)
    assert parent.stdout
    child = int(parent.stdout.readline())
    assert not is_gone(child)
    parent.kill()
    parent.communicate(timeout=10)
    wait_until_gone(child)


def test_it_does_not_begin_when_its_parent_is_gone_already(party_toml: Path) -> None:
    hello = {
        "worker": "w",
        "redis_url": SECRET_URL,
        "host": PartyHost.load(party_toml).as_message(),
        "party": "alice",
        "purpose": "a job",
        "parent": 2**22 + 1,
    }
    done = subprocess.run(
        [sys.executable, "-m", "workers.runtime.compute"], cwd=ROOT, input=json.dumps(hello).encode() + b"\n",
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@pytest.fixture
def waiting(party_toml: Path) -> Iterator[ComputeProcess]:
    starter = Starter("alice-host-1", SECRET_URL, PartyHost.load(party_toml))
    made = starter.start()
    yield made
    made.close()
    starter.close()


@pytest.mark.pipeline
def test_it_ends_when_it_is_closed_while_it_waits(waiting: ComputeProcess) -> None:
    assert waiting.is_ready(60)
    assert waiting.is_ready()
    assert b"secretpw" not in Path(f"/proc/{waiting.process.pid}/cmdline").read_bytes()
    waiting.close()
    assert waiting.process.returncode == 0
    with pytest.raises(ValueError, match="closed"):
        waiting.tell({})


@pytest.mark.pipeline
def test_it_tells_that_a_process_died_while_it_waited(waiting: ComputeProcess) -> None:
    waiting.process.kill()
    started = time.monotonic()
    assert not waiting.is_ready(30)
    assert time.monotonic() - started < 5
    waiting.process.wait(5)
    with pytest.raises(BrokenPipeError):
        waiting.tell({})


@pytest.mark.pipeline
def test_it_leaves_no_process_behind_when_the_worker_is_killed(party_toml: Path) -> None:
    parent = run_parent(PARENT, SECRET_URL, str(party_toml))
    assert parent.stdout
    zygote, waiting, keeper, ready = parent.stdout.readline().split()
    try:
        assert ready == b"True"
        assert not is_gone(int(waiting))
        parent.kill()
        parent.wait(10)
        wait_until_gone(int(waiting))
        wait_until_gone(int(zygote))
    finally:
        os.kill(int(keeper), signal.SIGKILL)
        parent.kill()
        parent.communicate(timeout=10)


# --- the command


def refused(*names: str) -> str:
    """How ``manage.py rqworker`` refuses to start."""
    with pytest.raises(CommandError) as caught:
        call_command("rqworker", *names)
    return str(caught.value)


def test_it_says_that_redis_is_away(party_toml: Path) -> None:
    """As its operator sees it: one line, however it came to be."""
    given = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    given |= {"CONTROLPLANE_STATE_DIR": str(party_toml.parent), "REDIS_URL": SECRET_URL, "PARTY_TOML": str(party_toml)}
    command = [sys.executable, "manage.py", "rqworker", "alice"]
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    said = "Redis is not reachable (ConnectionError); check REDIS_URL and that the server runs."
    assert line == f"CommandError: {said}"


def test_it_says_which_party_this_host_is(party_toml: Path, connection: Redis) -> None:
    assert refused("bob") == f"{party_toml} is of party alice: start this worker as `rqworker alice`"
    assert not connection.keys("*")


def test_it_says_that_there_is_no_party_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "party_toml", tmp_path / "party.toml")
    assert refused("alice") == f"{tmp_path}/party.toml does not exist; set PARTY_TOML to this host's party.toml"


@pytest.mark.parametrize("names", [("alice", "bob"), ()])
def test_it_takes_one_party(party_toml: Path, names: tuple[str, ...]) -> None:
    assert refused(*names) == "Name one party, the one of this host's party.toml: `manage.py rqworker alice`."


@pytest.mark.parametrize(
    "url",
    ["redis://u:secretpw@127.0.0.1:x/0", "redis://u:sec/retpw@h:1", "secretpw://h", "redis://u:secretpw@[::1/0", ""],
)
def test_it_says_that_the_address_of_redis_is_none(party_toml: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(environment, "redis_url", url)
    assert refused("alice") == "REDIS_URL is no address of a Redis server; such as redis://user:password@host:6379/0"


def test_it_says_that_redis_refused_the_password(
    party_toml: Path, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.acl_setuser("worker-of-tests", enabled=True, passwords=["+right"], commands=["+@all"])
    try:
        path = connection.connection_pool.connection_kwargs["path"]
        monkeypatch.setattr(environment, "redis_url", f"unix://worker-of-tests@{path}?db=0&password=secretpw")
        said = refused("alice")
    finally:
        connection.acl_deluser("worker-of-tests")
    assert said == "Redis refused the user or password in REDIS_URL."
