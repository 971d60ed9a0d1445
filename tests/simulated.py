"""Parties whose workers are only what they leave in Redis; the coordinator, the database and Redis are real."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from django.db import connection as database
from django.utils import timezone
from redis import Redis
from rq.serializers import JSONSerializer

from controlplane.models import Dataset, Party
from executions.coordinator import pipelines, schedules
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.key import own_key
from executions.coordinator.recovery import Recovery
from executions.coordinator.settle import settle
from executions.models import Execution, PartyCheck, PartyRun, PipelineRun, PortLease
from executions.states import RunStatus, Status, transition
from tests.composed import documents
from tests.keys import stream, voice
from workers.contract.events import RUNNING, SUCCESS
from workers.contract.jobs import PartyJob
from workers.contract.run_name import RunName
from workers.runtime.publisher import Publisher


def add_worker(connection: Redis, party: str, name: str = "1", waiting: str = "ready") -> str:
    """What a live worker leaves in Redis."""
    key = f"rq:worker:{party}-{name}"
    known = {"follows": own_key().key_id, "signs_with": voice(party).key_id}
    connection.hset(key, mapping={"queues": party, "state": "idle", "process": waiting} | known)
    connection.expire(key, 60)
    connection.sadd(f"rq:workers:{party}", key)
    return key


def pass_checks() -> None:
    """Every host that was asked for pre-flight checks has found nothing wrong."""
    PartyCheck.objects.filter(answered_at=None).update(answered_at=timezone.now(), results=[], facts={})


def a_second_later(dispatcher: Dispatcher) -> None:
    """The next step of the dispatcher reads the whole queue."""
    dispatcher._queued._whole_at = 0.0


def dispatch(dispatcher: Dispatcher) -> bool:
    """The dispatcher's steps around the hosts' checks, a while after its last ones. Returns whether anything was
    dispatched or repaired."""
    a_second_later(dispatcher)
    did = dispatcher.step()
    pass_checks()
    return dispatcher.step() or did


def take(connection: Redis, run: PartyRun, worker: str) -> None:
    """What a worker's taking of a job leaves in Redis."""
    connection.lrem(f"rq:queue:{run.party.name}", 1, run.job_id)
    begin_job(connection, run.job_id, worker)


def begin_job(connection: Redis, job_id: str, worker: str) -> None:
    """What a worker's process leaves in Redis as it begins a job."""
    connection.hset(f"rq:job:{job_id}", mapping={"status": "started", "worker_name": worker})
    _tell(connection, worker, "busy", job_id)


def leave_job(connection: Redis, worker: str) -> None:
    """What a worker says of itself once it has no job any more."""
    _tell(connection, worker, "idle", "")


def _tell(connection: Redis, worker: str, state: str, job_id: str) -> None:
    if connection.exists(key := f"rq:worker:{worker}"):
        connection.hset(key, mapping={"state": state, "current_job": job_id})


def job_of(connection: Redis, run: PartyRun) -> PartyJob:
    return PartyJob.fetch(run.job_id, connection=connection, serializer=JSONSerializer)


def submit(**options: Any) -> Execution:
    return Execution.objects.submit(documents(), options=options)


def status(execution: Execution) -> str:
    execution.refresh_from_db()
    return execution.status


def finish(execution: Execution, result: RunStatus = RunStatus.SUCCESS) -> None:
    """All parties of the current attempt ended and let go."""
    now = timezone.now()
    runs = execution.runs.filter(released_at=None)
    runs.update(status=result, ended_at=now, released_at=now, started_at=now)
    PortLease.objects.filter(run__execution=execution).delete()
    settle(execution.pk)


def begin(execution: Execution, connection: Redis) -> dict[str, PartyRun]:
    """Both parties have begun."""
    runs = {r.party.name: r for r in execution.runs.select_related("party")}
    for name, run in runs.items():
        take(connection, run, f"{name}-1")
    execution.runs.update(status=RunStatus.RUNNING, started_at=timezone.now(), stage="sf_init")
    settle(execution.pk)
    assert status(execution) == Status.RUNNING
    return runs


def settle_down(recovery: Recovery, condition: Callable[[], bool]) -> None:
    for _ in range(40):
        recovery.step()
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("did not get there in 40 steps")


def settle_pipelines() -> None:
    """Until there is nothing to do for pipelines and schedules."""
    for _ in range(20):
        if not any([pipelines.step(), schedules.step()]):
            return
    raise AssertionError("always something to do")


def end_node(
    run: PipelineRun, node: str, status: Status = Status.SUCCESS, columns: dict[str, str] | None = None
) -> Execution:
    """A node's execution ends; of one that succeeds the outputs are there, with these columns."""
    execution = run.nodes.get(name=node).execution
    assert execution, node
    transition(execution, Status.DISPATCHED, attempt=1)
    transition(execution, Status.CANCELLING if status == Status.CANCELLED else Status.RUNNING)
    transition(execution, status, error="no" if status == Status.FAILURE else "")
    for party, name in execution.documents["task_config"]["outputs"].items() if status == Status.SUCCESS else ():
        found = {"columns": columns or {"age": "int", "income": "float"}, "produced_by": execution.pk}
        Dataset.objects.update_or_create(party=Party.objects.get(name=party), name=name, defaults=found)
    settle_pipelines()
    return execution


def publisher(execution: Execution, party: str, connection: Redis, tmp_path: Path, **options: Any) -> Publisher:
    return Publisher(
        stream(connection, party),
        run=RunName(str(execution.pk), 1),
        worker=f"{party}-host-1",
        task_type="psi",
        journal_dir=tmp_path,
        **options,
    )


def publish_success(execution: Execution, party: str, connection: Redis, tmp_path: Path) -> None:
    events = publisher(execution, party, connection, tmp_path)
    events.publish(RUNNING, "task_started")
    events.publish(RUNNING, "devices_ready", devices_initialized=["spu"])
    events.publish(RUNNING, "task_execution", computation_progress=0.0)
    events.publish(SUCCESS, "task_execution", result={"intersection_count": {party: 3}}, computation_progress=1.0)
    events.publish(SUCCESS, "cleanup")


def down() -> Redis:
    return Redis.from_url("unix:///nowhere/valkey.sock")


def go_on_with_pipelines_at_once(steps: int) -> None:
    """What three coordinators do at the same time, each this many steps of pipelines and schedules."""

    def coordinate() -> None:
        try:
            for _ in range(steps):
                pipelines.step()
                schedules.step()
        finally:
            database.close()

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(coordinate) for _ in range(3)]:
            done.result(timeout=60)
