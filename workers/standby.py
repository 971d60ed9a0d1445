"""A process that has SecretFlow imported and waits for one job: ``python -m workers.standby``.

Importing SecretFlow takes two seconds, and a process forked after the import is not safe (3-facts.md
section 2), so each job gets a fresh process that did its importing beforehand. Started by
:class:`workers.worker.PartyWorker` alone: it reads its worker's name from standard input, says ``ready``
on standard output, reads one job, becomes RQ's work horse for it, and ends with ``os._exit``. Where the job's
session may be used again it says so instead, and reads the next job.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

from workers.party import PartyHost

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
READY = b"ready\n"
#: Exit status of a process that ended because nobody looked after it any more.
ABANDONED = 70
ROOT = Path(__file__).resolve().parent.parent


class Standby:
    """A waiting process, ready for one job. Create it in the main thread: it dies with the thread that made it."""

    START_TIMEOUT = 120.0

    def __init__(self, worker: str, redis_url: str, host: PartyHost) -> None:
        # What SecretFlow leaves under TMPDIR goes with the process: see remove_abandoned_workdirs
        self._directory = host.work_root / f"standby-{uuid4()}"
        lock = host.claim_workdir(self._directory)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workers.standby"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(self._directory)},
            start_new_session=True,
            pass_fds=(lock.fileno(),),  # locked until the process ends, however it does
        )
        lock.close()
        # Over the pipe, not in the arguments: the URL may carry a password
        self._write({"worker": worker, "redis_url": redis_url, "host": host.as_message(), "parent": os.getpid()})
        self._ready = False
        #: Several threads ask whether it is ready.
        self._listening = threading.Lock()

    def is_ready(self, wait: float = 0) -> bool:
        """Whether it has imported everything; waits up to ``wait`` seconds for it, less if it ended instead."""
        if self.process.poll() is not None:
            return False
        with self._listening:
            if not self._ready and self._speaks(wait):
                assert self.process.stdout
                self._ready = self.process.stdout.readline() == READY
        return self._ready

    def ask(self, question: dict[str, Any], interval: float, still_waiting: Callable[[], None]) -> Any:
        """Its answer, as JSON; None if it ended before. ``still_waiting`` is called every ``interval`` seconds.

        A job that it is given meanwhile begins after the answer.
        """
        try:
            self._write(question)
            while not self._speaks(interval):
                still_waiting()
            assert self.process.stdout
            return json.loads(self.process.stdout.readline() or b"null")
        except (BrokenPipeError, ValueError):
            return None

    def _speaks(self, wait: float | None) -> bool:
        """Whether there is something to read, or the process has ended; waits so long for it, without limit if None."""
        assert self.process.stdout
        return bool(select.select([self.process.stdout], [], [], wait)[0])

    def take(self, order: dict[str, Any]) -> None:
        """Give it its job. Raises BrokenPipeError if it is gone."""
        self._write(order)

    def outcome(self) -> Any:
        """Once its job is done: the session that it keeps for another one, as JSON; None if it has ended."""
        self._speaks(None)
        assert self.process.stdout
        return json.loads(self.process.stdout.readline() or b"null")

    def close(self) -> None:
        """End it, unless it has a job."""
        assert self.process.stdin
        try:
            self.process.stdin.close()
            self.process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _write(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()


# --- in the process


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent's main thread ends: no orphan computes on."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the call
        os._exit(1)


def end_when_abandoned(connection: Redis, keys: list[str], patience: float = 3.0) -> None:
    """Watch the keys of the worker and of the job, in a thread, and end this process when one has been gone so long.
    The list may change meanwhile, as a whole.

    A worker that is stopped or hangs cannot end its process, and the coordinator will start the next attempt. It
    takes the worker for dead a second later than this does. While Redis is away nothing can be known, and the
    computation goes on.
    """

    def watch() -> None:
        gone_since = None
        while True:
            time.sleep(0.5)
            watched = list(keys)
            try:
                there = connection.exists(*watched) == len(watched)
                if not there:
                    # Raises where Redis takes no writes, and the worker could not renew its key either
                    connection.delete(f"{watched[0]}:nothing")
            except (RedisError, OSError):
                there = True
            now = time.monotonic()
            gone_since = None if there else gone_since or now
            if gone_since and now - gone_since >= patience:
                log.error("ending: the worker is silent, or the job is gone from Redis")
                os._exit(ABANDONED)

    threading.Thread(target=watch, name="abandoned?", daemon=True).start()


def preload() -> None:
    """Import all that a job may need."""
    import secretflow  # noqa: F401  the two seconds

    from workers.executors import TASK_EXECUTOR_REGISTRY

    for name in ("workers.pipeline", "workers.devices.spu", "secretflow.device.device.spu", "pyarrow.csv"):
        importlib.import_module(name)
    for executor in TASK_EXECUTOR_REGISTRY.values():
        for name in executor.preload:
            importlib.import_module(name)
    warm_up()
    # What was imported stays: the collections of garbage in a run, a tenth of a second each, need not look at it
    gc.freeze()


def warm_up() -> None:
    """Do once what the first checks would otherwise be slow at: some 70 ms that a run need not wait for."""
    import pyarrow

    # For Ctrl-C, which a job never gets, pyarrow looks through all objects of the process after each file: 25 ms
    pyarrow.enable_signal_handlers(False)
    from workers.errors import ConfigError
    from workers.tables import check_keys
    from workers.validation import layers, validate

    with suppress(ConfigError):
        validate({layer: {} for layer in layers()})
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as table:
        table.write("key\n1\n")
        table.flush()
        check_keys(Path(table.name), "warm-up", ["key"])


def main() -> None:
    hello = json.loads(sys.stdin.buffer.readline())
    die_with_parent(hello["parent"])
    # Whatever libraries print must not get into the conversation with the parent
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    from workers import jobs, pipeline, preflight
    from workers.connection import connect

    jobs.install_gate()
    preload()
    connection = connect(hello["redis_url"])
    runtime = pipeline.runtime = pipeline.Runtime(
        PartyHost.from_message(hello["host"]), connection, hello["worker"], Path(os.environ["TMPDIR"])
    )
    answers.write(READY)
    #: What this process must not outlive, from its first job on.
    watched: list[str] = []
    while line := sys.stdin.buffer.readline():
        order = json.loads(line)
        if "preflight" in order:
            answer = preflight.check(runtime.host, order["preflight"], connection)
        else:
            perform(order, hello, watched)
            if runtime.session is None:
                break
            answer = runtime.session.as_message()
        answers.write(json.dumps(answer).encode() + b"\n")
    os._exit(0)  # the job is done, or the worker has no use for this process any more


def perform(order: dict[str, Any], hello: dict[str, Any], watched: list[str]) -> None:
    """Run one job as RQ's work horse."""
    from rq import Queue
    from rq.executions import Execution
    from rq.serializers import JSONSerializer
    from rq.worker import Worker

    from workers.connection import connect, when_it_takes_writes
    from workers.jobs import STOP_MARK, PartyJob

    class Horse(Worker):
        def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
            """The worker process's alone: RQ would have its key live on here for as long as the job may take."""

        # RQ takes a server that is full, for now, for the failure of the job, and cannot note even that

        def prepare_job_execution(self, job: Any, remove_from_intermediate_queue: bool = False) -> None:
            prepare = super().prepare_job_execution
            when_it_takes_writes(lambda: prepare(job, remove_from_intermediate_queue))
            if self.connection.hexists(job.key, STOP_MARK):
                self.log.info("job %s was stopped before it began", job.id)
                os._exit(1)

        def _finalize_success(self, job: Any, queue: Any, execution: Any, return_value: Any) -> None:
            finalize = super()._finalize_success
            # The result went with the events; Redis need not hold a large one a second time
            short = {name: value for name, value in return_value.items() if name != "result_metadata"}
            when_it_takes_writes(lambda: finalize(job, queue, execution, short))

        def _finalize_failure(self, job: Any, *args: Any) -> None:
            # RQ logs that it could not note the failure, and leaves it at that: so the waiting comes before
            when_it_takes_writes(lambda: self.connection.hset(job.key, "worker_name", self.name))
            super()._finalize_failure(job, *args)

    connection = Redis.from_url(hello["redis_url"])
    queue = Queue(order["queue"], connection=connection, job_class=PartyJob, serializer=JSONSerializer)
    horse = Horse(
        [queue],
        name=hello["worker"],
        connection=connection,
        job_class=PartyJob,
        serializer=JSONSerializer,
        prepare_for_work=False,
        log_job_description=False,
    )
    job = PartyJob.fetch(order["job_id"], connection=connection, serializer=JSONSerializer)
    execution = Execution.fetch(order["execution_id"], job.id, connection=connection)
    execution._job = job
    horse.execution = execution
    is_first = not watched
    watched[:] = [horse.key, job.key]
    if is_first:
        end_when_abandoned(connect(hello["redis_url"]), watched)
    # Not main_work_horse: it ends the process
    horse.setup_work_horse_signals()
    horse._is_horse = True
    try:
        horse.perform_job(job, queue, execution)
    except BaseException:
        os._exit(1)
    watched[:] = [horse.key]


if __name__ == "__main__":
    main()
