"""A process that has SecretFlow imported and waits for one job: ``python -m workers.standby``.

Importing SecretFlow takes two seconds, and a process forked after the import is not safe (3-facts.md
section 2), so each job gets a fresh process that did its importing beforehand. Started by
:class:`workers.worker.PartyWorker` alone: it reads its worker's name from standard input, says ``ready``
on standard output, reads one job, becomes RQ's work horse for it, and ends with ``os._exit``.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import os
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
READY = b"ready\n"


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent's main thread ends: no orphan computes on."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the call
        os._exit(1)


def preload() -> None:
    """Import all that a job may need."""
    import secretflow  # noqa: F401  the two seconds

    from workers.executors import TASK_EXECUTOR_REGISTRY

    for name in ("workers.pipeline", "workers.devices.spu", "secretflow.device.device.spu", "pyarrow.csv"):
        importlib.import_module(name)
    for executor in TASK_EXECUTOR_REGISTRY.values():
        for name in executor.preload:
            importlib.import_module(name)


def main() -> None:
    hello = json.loads(sys.stdin.buffer.readline())
    die_with_parent(hello["parent"])
    # Whatever libraries print must not get into the conversation with the parent
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    from workers import jobs, pipeline
    from workers.connection import connect
    from workers.party import PartyHost

    jobs.install_gate()
    preload()
    connection = connect(hello["redis_url"])
    pipeline.runtime = pipeline.Runtime(PartyHost.from_message(hello["host"]), connection, hello["worker"])
    answers.write(READY)
    answers.close()

    line = sys.stdin.buffer.readline()
    if not line:  # the worker is shutting down
        os._exit(0)
    perform(json.loads(line), hello)


def perform(order: dict[str, Any], hello: dict[str, Any]) -> None:
    """Run one job as RQ's work horse; does not return."""
    from redis import Redis
    from rq import Queue
    from rq.executions import Execution
    from rq.serializers import JSONSerializer
    from rq.worker import Worker

    from workers.jobs import STOP_MARK, PartyJob

    class Horse(Worker):
        def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
            """The worker process's alone: RQ would have its key live on here for as long as the job may take."""

        def prepare_job_execution(self, job: Any, remove_from_intermediate_queue: bool = False) -> None:
            super().prepare_job_execution(job, remove_from_intermediate_queue)
            if self.connection.hexists(job.key, STOP_MARK):
                self.log.info("job %s was stopped before it began", job.id)
                os._exit(1)

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
    horse.main_work_horse(job, queue)


if __name__ == "__main__":
    main()
