"""An RQ worker that outlasts a Redis that is away, or takes no writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError
from rq.timeouts import BaseDeathPenalty
from rq.worker import Worker

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
    """

    death_penalty_class = NoAlarm

    def register_birth(self) -> None:
        when_it_takes_writes(super().register_birth, say=self.log.warning)

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
