"""The one long-running command of the control plane: listens, goes on with pipelines, dispatches, recovers."""

from __future__ import annotations

import logging
import signal
import time
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, close_old_connections
from redis.exceptions import RedisError

from executions import pipelines
from executions.connection import redis_connection
from executions.dispatch import Dispatcher
from executions.listener import Listener
from executions.models import Execution
from executions.recovery import Recovery
from executions.states import Status
from workers.contract.connection import refusal, trouble

log = logging.getLogger(__name__)


class Coordinator:
    """Made of steps that each return whether they did something. Two at once are safe, and so is killing one."""

    IDLE_MS = 1000
    RECOVERY_INTERVAL = 0.5

    def __init__(self) -> None:
        connection = redis_connection()
        self.listener = Listener(connection)
        self.dispatcher = Dispatcher(connection)
        self.recovery = Recovery(connection)
        self._recover_at = 0.0
        #: True at the start too: the coordinator before this one may have ended while Redis was away.
        self._redis_was_away = True

    def step(self, block_ms: int = 0) -> bool:
        """One round. Raises RedisError or DatabaseError; the next round goes on from there."""
        did = self.listener.step(block_ms)
        if time.monotonic() >= self._recover_at:
            did |= self.recovery.step()
            self._recover_at = time.monotonic() + self.RECOVERY_INTERVAL
        did |= pipelines.step()
        did |= self.dispatcher.step()
        if self._redis_was_away:
            Execution.objects.active().exclude(waiting_for="").update(waiting_for="")
            self._redis_was_away = False
        return did

    def without_redis(self, error: RedisError) -> None:
        """What is left to do while Redis is away or takes no writes: say so on what waits for it."""
        self._redis_was_away = True
        away = trouble(error)
        Execution.objects.filter(status=Status.QUEUED).exclude(waiting_for=away).update(waiting_for=away)
        then = "takes writes again" if refusal(error) else "is back"
        away += f". The parties work on; what they report will be here when Redis {then}"
        Execution.objects.active().exclude(waiting_for=away).update(waiting_for=away)


class Command(BaseCommand):
    help = (
        "Listen to the parties, dispatch executions, go on with pipelines and schedules, recover what is lost. "
        "Run one or more, under a supervisor."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        stopping: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, frame: stopping.append(n))
        coordinator = Coordinator()
        self.stdout.write("coordinating; stop with Ctrl-C")
        self.stdout.flush()
        busy = False
        while not stopping:
            try:
                # While anything runs, look often enough to notice what sends no events
                busy_now = busy or Execution.objects.active().exists()
                busy = coordinator.step(200 if busy_now else Coordinator.IDLE_MS)
            except RedisError as error:
                log.warning("%s", trouble(error))
                self._shielded(partial(coordinator.without_redis, error))
                time.sleep(0.5)
            except (DatabaseError, InterfaceError) as error:
                log.warning("database: %s", type(error).__name__)
                close_old_connections()
                time.sleep(0.5)

    @staticmethod
    def _shielded(step: Any) -> None:
        try:
            step()
        except (DatabaseError, InterfaceError):
            close_old_connections()
