"""A process that has SecretFlow imported and waits for one job.

Started by :class:`workers.worker.PartyWorker` alone, forked by its zygote or, where that must not fork, as
``python -m workers.standby``. It reads its worker's name from standard input, says ``ready`` on standard output,
reads one job, becomes RQ's work horse for it, and ends with ``os._exit``. Where the job's session may be used again
it says so instead, and reads the next job.
"""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

from workers import zygote
from workers.party import PartyHost
from workers.zygote import ROOT, Zygote, die_with_parent, name_process

log = logging.getLogger(__name__)

READY = b"ready\n"
#: Exit status of a process that ended because nobody looked after it any more.
ABANDONED = 70


class Forked:
    """A child process that the zygote forked, with as much of ``subprocess.Popen`` as is used here."""

    #: Returned by ``poll`` and ``wait`` if somebody else waited for the process, and has yet to set ``returncode``.
    UNKNOWN = 255

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None
        # Of two threads that poll at once, one would be told that there is no such child
        self._polling = threading.Lock()

    def poll(self) -> int | None:
        with self._polling:
            if self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # RQ waits for its work horse by itself
                    return self.UNKNOWN
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.005)
        return status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class Standby:
    """A waiting process, ready for one job. Create it in the main thread: it dies with the thread that made it.

    Raises OSError where no process can be started.
    """

    START_TIMEOUT = 120.0

    def __init__(self, worker: str, redis_url: str, host: PartyHost, zygote: Zygote) -> None:
        # What SecretFlow leaves under TMPDIR goes with the process: see remove_abandoned_workdirs
        self._directory = host.work_root / f"standby-{uuid4()}"
        with host.claim_workdir(self._directory) as lock:  # locked until the process ends, however it does
            self.process = _forked(zygote, lock, self._directory) or subprocess.Popen(
                [sys.executable, "-m", "workers.standby"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
                env=os.environ | {"TMPDIR": str(self._directory)},
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )
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


def _forked(parent: Zygote, lock: IO[str], directory: Path) -> Forked | None:
    """Return the process; None where the zygote must not fork. Raises OSError where none can be started."""
    stdin, orders = os.pipe()
    answers, stdout = os.pipe()
    pid = None
    try:
        pid = parent.fork("workers.standby.serve", [stdin, stdout, lock.fileno()], {"TMPDIR": str(directory)})
    finally:
        for descriptor in (stdin, stdout) if pid else (stdin, stdout, orders, answers):
            os.close(descriptor)
    if pid is None:
        return None
    return Forked(pid, os.fdopen(orders, "wb"), os.fdopen(answers, "rb"))


# --- in the process


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


def serve() -> None:
    """Serve the worker, which speaks through standard input and output. Never returns."""
    hello = json.loads(sys.stdin.buffer.readline())
    die_with_parent(hello["parent"])
    name_process("compute")
    # Whatever libraries print must not get into the conversation with the parent
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "secretflow" not in sys.modules:
        zygote.load()
        zygote.unlike_its_siblings()

    from workers import jobs, pipeline, preflight
    from workers.connection import connect

    jobs.install_gate()
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
    serve()
