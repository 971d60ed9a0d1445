"""The clock of a party's host is set: no job ends for it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
import rq.job
from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.timeouts import HorseMonitorTimeoutException
from rq.utils import now

from workers.contract.jobs import TASK_FUNCTION, PartyJob
from workers.runtime import patient_worker
from workers.runtime.patient_worker import PatientWorker


class Monitoring(PatientWorker):
    """Is told three times that it is time to look after the job; then it has ended."""

    looks = 0
    killed = False
    seconds_left: int

    def wait_for_process(self) -> Any:
        self.looks += 1
        if self.looks <= 3:
            raise HorseMonitorTimeoutException
        return 1, 0, None

    def kill_horse(self, *args: Any) -> None:
        self.killed = True

    def get_heartbeat_ttl(self, job: Any, working_time: float = 0.0) -> int:
        self.seconds_left = super().get_heartbeat_ttl(job, working_time)
        return self.seconds_left


@pytest.fixture
def worker(connection: Redis, monkeypatch: pytest.MonkeyPatch) -> Monitoring:
    # RQ imports what a job names; the gate of other tests is not for these
    monkeypatch.setattr(rq.job, "import_attribute", rq.job.import_attribute)
    queue = Queue("alice", connection=connection, serializer=JSONSerializer, job_class=PartyJob)
    made = Monitoring([queue], "alice-1", connection=connection, serializer=JSONSerializer, job_class=PartyJob)
    made.register_birth()
    made.last_heartbeat = now()
    return made


def job_of(worker: Monitoring) -> Job:
    return PartyJob.create(
        TASK_FUNCTION, id="alice-1-1", connection=worker.connection, serializer=JSONSerializer, timeout=120,
        origin="alice",
    )  # fmt: skip


@pytest.mark.parametrize("hours", [1, -1])
def test_a_job_is_not_killed_for_it(worker: Monitoring, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    job = worker.queues[0].enqueue_job(job_of(worker))
    execution = worker.prepare_execution(job)
    for module in (patient_worker, rq.worker.worker_classes, rq.worker.base):
        monkeypatch.setattr(module, "now", lambda looks=worker: now() + timedelta(hours=hours * bool(looks.looks)))
    worker.monitor_work_horse(job, worker.queues[0], execution)
    assert worker.looks == 4
    assert not worker.killed
    assert worker.seconds_left > 60


def test_a_job_of_another_host_is_not_failed_for_it(worker: Monitoring) -> None:
    """That host's clock is an hour behind, or this one's ahead."""
    job = worker.queues[0].enqueue_job(job_of(worker))
    worker.prepare_execution(job)
    job.set_status(JobStatus.STARTED)
    registry = worker.queues[0].started_job_registry
    for member in worker.connection.zrange(registry.key, 0, -1):
        worker.connection.zadd(registry.key, {member: time.time() - 3600})
    worker.connection.rpush(worker.queues[0].intermediate_queue.key, job.id, "alice-gone")
    worker.connection.set(worker.queues[0].intermediate_queue.get_first_seen_key(job.id), time.time() - 3600)
    worker.clean_registries()
    assert job.get_status() == JobStatus.STARTED
    assert worker.queues[0].intermediate_queue.get_job_ids() == [job.id]
    assert worker.connection.zcard(registry.key) == 1
