"""An RQ worker that outlasts a Redis that is away or takes no writes, and a clock that is set."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq.job import Job
from rq.timeouts import BaseDeathPenalty, HorseMonitorTimeoutException
from rq.utils import now
from rq.worker import Worker
from rq.worker_registration import clean_worker_registry

from workers.contract.connection import when_it_takes_writes


class NoAlarm(BaseDeathPenalty):
    """RQ's limit to a wait for a job's process, which the wait keeps by itself: an alarm could come between the
    reading of an outcome and what is done about it, and the outcome would be lost."""

    def setup_death_penalty(self) -> None:
        pass

    def cancel_death_penalty(self) -> None:
        pass


class PatientWorker(Worker):
    """Waits where RQ's own worker would quit.

    RQ quits when Redis is away at any moment but while it waits for a job, and when Redis takes no writes also then.
    The computation at hand would count as lost, and whoever supervises this process would have to notice.

    And it counts time by the monotonic clock where RQ goes by the time of day: a clock that was put forward by an hour
    would end whatever runs for less, and a host whose clock is ahead would fail the jobs of the party's other hosts.
    """

    death_penalty_class = NoAlarm
    #: The job that is being done, and the monotonic time at which it began.
    _monitored: tuple[Job, float] | None = None

    def monitor_work_horse(self, job: Job, queue: Any, execution: Any) -> None:
        self._monitored = job, time.monotonic()
        super().monitor_work_horse(job, queue, execution)

    def wait_for_horse(self) -> Any:
        try:
            return self.wait_for_process()
        except HorseMonitorTimeoutException:
            if self._monitored:  # RQ compares this with the time of day now
                job, began = self._monitored
                job.started_at = now() - timedelta(seconds=time.monotonic() - began)
            raise

    def wait_for_process(self) -> Any:
        """Return pid, wait status and None once the job's process has done it. Raises HorseMonitorTimeoutException if
        it is at work still when it is time to look after it."""
        raise NotImplementedError

    def clean_registries(self) -> None:
        """Forget what is over. RQ would also fail jobs that look abandoned, by the time of day of this host; the
        coordinator alone decides that."""
        for queue in self.queues:
            if queue.acquire_maintenance_lock():
                queue.finished_job_registry.cleanup()
                queue.failed_job_registry.cleanup()
                long_ago = now() - timedelta(days=1)
                self.connection.zremrangebyscore(queue.started_job_registry.key, 0, long_ago.timestamp())
                clean_worker_registry(queue)
                taken = queue.intermediate_queue
                for job in taken.get_job_ids():
                    if not self.connection.exists(self.job_class.key_for(job)):
                        taken.remove(job)
                queue.release_maintenance_lock()
        self.last_cleaned_at = now()

    def register_birth(self) -> None:
        register = super().register_birth

        def be_born() -> None:
            if self.birth_date:  # an earlier try may have got there, and its answer not here
                self.connection.delete(self.key)
            register()

        self._with_redis(be_born)

    def subscribe(self) -> None:
        self._with_redis(super().subscribe)

    def _with_redis(self, action: Callable[[], Any]) -> None:
        """Do it as soon as Redis lets it: to begin anew would cost an import of SecretFlow."""
        while True:
            try:
                return self.patiently(action)
            except (RedisConnectionError, RedisTimeoutError):
                if self._stop_requested:
                    raise
                self.wait_for_redis()

    def dequeue_job_and_maintain_ttl(self, timeout: int | None, max_idle_time: int | None = None) -> Any:
        wait = super().dequeue_job_and_maintain_ttl
        return self.patiently(lambda: wait(timeout, max_idle_time))

    def prepare_execution(self, job: Any) -> Any:
        prepare = super().prepare_execution
        return self.patiently(lambda: prepare(job))

    def patiently(self, action: Callable[[], Any]) -> Any:
        return when_it_takes_writes(action, given_up=lambda: self._stop_requested, say=self.log.warning)

    def check_for_suspension(self, burst: bool) -> None:
        self.wait_for_redis()
        with suppress(RedisError):
            super().check_for_suspension(burst)

    def run_maintenance_tasks(self) -> None:
        with suppress(RedisError):
            super().run_maintenance_tasks()

    def set_state(self, state: Any, pipeline: Any = None) -> None:
        with suppress(RedisError):  # every heartbeat says it again
            super().set_state(state, pipeline)

    def set_shutdown_requested_date(self) -> None:
        with suppress(RedisError):  # called by the signal handler, in the middle of anything
            super().set_shutdown_requested_date()

    def wait_for_redis(self) -> None:
        while not self._stop_requested:
            try:
                self.connection.ping()
                return
            except RedisError:
                time.sleep(0.5)
