"""The process in which SecretFlow computes: it has everything imported and waits for one job.

Started by :class:`workers.runtime.compute_process.ComputeProcess` alone, forked by its worker's zygote or, where that
must not fork, as ``python -m workers.runtime.compute``. It reads its worker's name from standard input, says ``ready``
on standard output, reads one job, becomes RQ's work horse for it, and ends with ``os._exit``. Where the job's session
may be used again it says so instead, and reads the next job.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.executions import Execution
from rq.serializers import JSONSerializer
from rq.worker import Worker

from workers.contract.connection import connect, when_it_takes_writes
from workers.contract.jobs import STOP_MARK, OrderedJob, install_gate, ordered_job
from workers.host import known
from workers.host.party import PartyHost
from workers.host.stream import Stream
from workers.network.links import warm_up
from workers.runtime import preflight, task_run, zygote
from workers.runtime.compute_process import ABANDONED, DONE, FOR_A_JOB, READY
from workers.runtime.diagnosis import begin_job, end_job, name_process, write_log
from workers.runtime.told_lines import begin_marks, tell_by
from workers.runtime.zygote import die_with_parent

log = logging.getLogger(__name__)

_ABANDONED_SAYS = "ending: the worker is silent, or the job is gone from Redis"
#: How long a process that ends may take to say so, in seconds.
SAYING = 0.5


def end_when_abandoned(connection: Redis, keys: list[str], patience: float = 3.0, interval: float = 0.5) -> None:
    """Watch the keys of the worker and of the job, in a thread, and end this process when one has been gone so long.
    The list may change meanwhile, as a whole. ``patience`` and ``interval`` are in seconds.

    A worker that is stopped or hangs cannot end its process, and the coordinator will start the next attempt. It
    takes the worker for dead a second later than this does. While Redis is away nothing can be known, and the
    computation goes on.
    """

    def watch() -> None:
        gone_since = None
        while True:
            time.sleep(interval)
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
                # A worker that is stopped does not read what is written here either, and this must end all the same
                telling = threading.Thread(target=log.error, args=[_ABANDONED_SAYS], daemon=True)
                with suppress(RuntimeError):
                    telling.start()
                    telling.join(SAYING)
                os._exit(ABANDONED)

    threading.Thread(target=watch, name="abandoned?", daemon=True).start()


def serve() -> None:
    """Serve the worker, which speaks through standard input and output. Never returns."""
    hello = json.loads(sys.stdin.buffer.readline())
    die_with_parent(hello["parent"])
    name_process(hello["party"], f"process for {hello['purpose']}")
    # Whatever libraries print must not get into the conversation with the parent
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    write_log()
    begin_marks(hello.get("mark", ""))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)  # native code writes rows, and does not say for whom
    if "secretflow" not in sys.modules:
        zygote.load()
        zygote.unlike_its_siblings()

    install_gate()
    connection, host = connect(hello["redis_url"]), PartyHost.from_message(hello["host"])
    stream = Stream(connection, host.name, host.signer)
    directory = Path(os.environ["TMPDIR"])
    runtime = task_run.runtime = task_run.Runtime(host, stream, hello["worker"], directory, ends=True)
    answers.write(READY + b"\n")
    if hello["purpose"] == FOR_A_JOB:
        warm_up(directory)  # while it waits
    #: What this process must not outlive, from its first job on.
    watched: list[str] = []
    while line := sys.stdin.buffer.readline():
        order = json.loads(line)
        if "preflight" in order:
            answer = preflight.check(runtime.host, order["preflight"], connection)
        else:
            runtime.tries = order["tries"]
            known.begin(order["known"])
            begin_job(order["job_id"])
            name_process(hello["party"], "process of a job", order["job_id"])
            perform(order, hello, ordered_job(host.name, host.orders), watched)
            if runtime.session is None:
                # Before its end, which takes a while: its worker has other jobs
                with suppress(OSError):
                    answers.write(json.dumps(DONE).encode() + b"\n")
                time.sleep(max(0.0, runtime.stays_until - time.monotonic()))
                break
            end_job()
            tell_by(None, lines=False)
            name_process(hello["party"], "process that keeps a session")
            answer = runtime.session.as_message()
        answers.write(json.dumps(answer).encode() + b"\n")
    log.info("ending: %s", "its job is done" if watched else "its worker has no use for it")
    os._exit(0)


class JobWorker(Worker):
    """RQ's work horse: the worker that performs one job in this process, in its party's worker's name."""

    def procline(self, message: str) -> None:
        """Not RQ's title of the process: this one has a better."""

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

    def handle_job_failure(self, *args: Any, exc_string: str = "", **options: Any) -> None:
        # A traceback has paths of this host, and its last line may have anything; RQ has put it into the log
        kind = (exc_string.strip().splitlines() or [""])[-1].partition(":")[0]
        told = f"{kind if kind.isidentifier() else 'an error'}; the worker's log has the details"
        super().handle_job_failure(*args, exc_string=told, **options)

    def _finalize_failure(self, job: Any, *args: Any) -> None:
        # RQ logs that it could not note the failure, and leaves it at that: so the waiting comes before
        when_it_takes_writes(lambda: self.connection.hset(job.key, "worker_name", self.name))
        super()._finalize_failure(job, *args)


def perform(order: dict[str, Any], hello: dict[str, Any], job_class: type[OrderedJob], watched: list[str]) -> None:
    """Run one job as RQ's work horse. Raises OrderRefused if what is in Redis is no job of the control plane: its
    worker has looked at it, but anybody may have written there since."""
    connection = Redis.from_url(hello["redis_url"])
    queue = Queue(order["queue"], connection=connection, job_class=job_class, serializer=JSONSerializer)
    worker = JobWorker(
        [queue],
        name=hello["worker"],
        connection=connection,
        job_class=job_class,
        serializer=JSONSerializer,
        prepare_for_work=False,
        log_job_description=False,
    )
    job = job_class.fetch(order["job_id"], connection=connection, serializer=JSONSerializer)
    execution = Execution.fetch(order["execution_id"], job.id, connection=connection)
    execution._job = job
    worker.execution = execution
    is_first = not watched
    watched[:] = [worker.key, job.key]
    if is_first:
        end_when_abandoned(connect(hello["redis_url"]), watched)
    # Not main_work_horse: it ends the process
    worker.setup_work_horse_signals()
    worker._is_horse = True
    try:
        worker.perform_job(job, queue, execution)
    except BaseException as error:
        log.error("ending: %s: %s", type(error).__name__, error)
        os._exit(1)
    watched[:] = [worker.key]


if __name__ == "__main__":
    serve()
