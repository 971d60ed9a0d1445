"""Puts the jobs of claimed executions into the parties' queues. Only this module enqueues."""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from redis import Redis
from redis.exceptions import WatchError
from rq import Queue
from rq.serializers import JSONSerializer

from executions.coordinator.completion import completed_for, registered_types
from executions.coordinator.isolation import alone, reason_of
from executions.coordinator.key import own_key
from executions.coordinator.settle import hold, settle
from executions.models import Execution, PartyRun
from executions.patience import Patience
from executions.redis import drop_foreign
from executions.states import RunStatus
from workers.contract.errors import classify, contract_name
from workers.contract.jobs import TASK_FUNCTION, PartyJob
from workers.contract.run_name import RunName

#: Seconds by which RQ's own time limit exceeds ours: the coordinator stops a run at its limit before RQ does.
RQ_TIMEOUT_MARGIN = 60


class Enqueuer:
    """Any number may run at once."""

    #: How long the coordinators try to put the jobs of a claimed execution together.
    LIMIT = timedelta(seconds=20)

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        #: How long runs have been claimed and not enqueued.
        self._claimed = Patience()

    def missing(self) -> bool:
        """Enqueue the jobs of claimed runs that are not known to be in Redis: their coordinator died between the
        claim's commit and the enqueuing, or Redis was away. Returns whether anything was done. Raises RedisError."""
        unsent = list(self._unsent().select_related("execution").order_by("execution", "attempt"))
        self._claimed.look({run.pk: run.dispatched_at for run in unsent})
        did = False
        for (_, attempt), found in groupby(unsent, key=lambda run: (run.execution_id, run.attempt)):
            execution = next(found).execution
            did |= self.put(execution, list(execution.runs.filter(attempt=attempt).select_related("party")))
        return did

    def put(self, execution: Execution, runs: list[PartyRun]) -> bool:
        """Put the jobs of all runs of one attempt into the parties' queues in one MULTI, unless they are already there.
        Returns whether anything was done. Raises RedisError."""
        what = f"execution {execution.pk}, attempt {runs[0].attempt}: its jobs cannot be put together"
        with alone(what) as fault:
            self._add(self._jobs(execution, runs))
            self._note_enqueued(runs)
        return not fault.error or self._not_enqueued(execution, runs, fault.error)

    def _not_enqueued(self, execution: Execution, runs: list[PartyRun], error: Exception) -> bool:
        """Show why an execution's jobs cannot be put together; end the attempt if no coordinator can do it for a while:
        another one may have the keys that this one lacks. Returns whether it was ended."""
        reason = f"its jobs cannot be put together: {reason_of(error)}"
        if not self._claimed.is_over(runs[0].pk, runs[0].dispatched_at, self.LIMIT):
            Execution.objects.filter(pk=execution.pk).exclude(waiting_for=reason[:500]).update(waiting_for=reason[:500])
            return False
        with transaction.atomic():
            hold([execution.pk])
            self._unsent().filter(pk__in=[r.pk for r in runs]).update(
                error=reason[:4000], error_type=contract_name(classify(error)), stop_requested_at=timezone.now()
            )
            settle(execution.pk)
        return True

    def _jobs(self, execution: Execution, runs: list[PartyRun]) -> list[PartyJob]:
        endpoints = {r.party.name: [f"{r.party.address}:{port}" for port in r.ports] for r in runs}
        order = {p: i for i, p in enumerate(execution.parties)}
        endpoints = dict(sorted(endpoints.items(), key=lambda item: order[item[0]]))
        name, types = RunName(str(execution.pk), runs[0].attempt), registered_types(execution.documents)
        jobs = [
            PartyJob.create(
                TASK_FUNCTION,
                kwargs={
                    "task_request_id": name.execution,
                    **completed_for(run.party, execution.documents, str(name), endpoints, types),
                },
                id=run.job_id,
                origin=run.party.name,
                connection=self.connection,
                serializer=JSONSerializer,
                timeout=execution.run_limit_seconds + RQ_TIMEOUT_MARGIN,
                result_ttl=600,
                failure_ttl=3600,
                description=f"{execution.task_type} {execution.pk}, attempt {name.attempt}",
            )
            for run in runs
            if run.enqueued_at is None
        ]
        for job in jobs:
            job.sign(own_key())
        return jobs

    def _add(self, jobs: list[PartyJob]) -> None:
        """Put those jobs into their queues that are still wanted and not in Redis yet."""
        # Before the MULTI: a command that fails in it does not undo the others
        drop_foreign(self.connection, [f"rq:queue:{job.origin}" for job in jobs], "list")
        with self.connection.pipeline() as pipeline:
            while jobs:
                try:
                    # Two coordinators may repair the same attempt: if both saw no job, only one adds it and the other
                    # looks again
                    pipeline.watch(*(job.key for job in jobs))
                    # After WATCH: whoever ends a run from here on also touches its job, and then the MULTI fails
                    wanted = set(
                        self._unsent().filter(job_id__in=[j.id for j in jobs]).values_list("job_id", flat=True)
                    )
                    jobs = [job for job in jobs if job.id in wanted and not pipeline.exists(job.key)]
                    pipeline.multi()
                    for job in jobs:
                        queue = Queue(
                            job.origin, connection=self.connection, serializer=JSONSerializer, job_class=PartyJob
                        )
                        queue.enqueue_job(job, pipeline=pipeline)
                    pipeline.execute()
                    break
                except WatchError:
                    continue

    def _unsent(self) -> QuerySet[PartyRun]:
        """Return the runs whose jobs are wanted and not known to be in Redis."""
        return PartyRun.objects.filter(
            status=RunStatus.DISPATCHED, enqueued_at=None, released_at=None, stop_requested_at=None
        )

    def _note_enqueued(self, runs: list[PartyRun]) -> None:
        """Note that the jobs are in Redis. If the coordinator dies before this, the database does not know of the jobs:
        recovery therefore looks into Redis before it ends such a run."""
        with transaction.atomic():
            hold({r.execution_id for r in runs})
            PartyRun.objects.filter(pk__in=[r.pk for r in runs], enqueued_at=None).update(enqueued_at=timezone.now())
