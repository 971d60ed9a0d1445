"""The coordinator's loop: it listens, advances pipelines, dispatches, recovers, and removes what is old."""

from __future__ import annotations

import logging
import time

from redis.exceptions import RedisError

from controlplane.audit.chain import seal
from executions.coordinator import approvals, notices, pipelines, preflight, schedules
from executions.coordinator.conditions import Conditions, tell_of_absence
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.isolation import alone
from executions.coordinator.listener import Listener
from executions.coordinator.recovery import Recovery
from executions.coordinator.totals import merge
from executions.coordinator.upkeep import Upkeep
from executions.models import Beat, Execution
from executions.redis import redis_connection
from executions.states import Status
from workers.contract.connection import refusal, trouble

log = logging.getLogger(__name__)


class Coordinator:
    """Calls steps that each return whether they did something. Two coordinators at once are safe, and so is killing
    one."""

    IDLE_MS = 1000
    RECOVERY_INTERVAL = 0.5
    SEAL_INTERVAL = 1.0
    TELL_INTERVAL = 2.0
    #: Seconds between two signs of life, and between two looks at how many rows the totals have.
    BEAT_INTERVAL, MERGE_INTERVAL = 5.0, 60.0

    def __init__(self) -> None:
        self.connection = connection = redis_connection()
        self.listener = Listener(connection)
        self.dispatcher = Dispatcher(connection)
        self.recovery = Recovery(connection)
        self.upkeep = Upkeep(connection)
        self.conditions = Conditions(connection)
        self._recover_at = self._seal_at = self._beat_at = self._merge_at = self._tell_at = 0.0
        self._has_begun = False
        #: True at the start, too: the previous coordinator may have ended while Redis was away.
        self._redis_was_away = True

    def step(self, block_ms: int = 0) -> bool:
        """Do one round. Returns whether anything was done. Raises RedisError or DatabaseError; the next round
        continues."""
        did = False
        self._beat()
        # What fails in one of these keeps the others from nothing
        with alone("listening"):
            did |= self.listener.step(block_ms)
        if self.listener.heard_progress_alone and time.monotonic() < self._recover_at:
            return True  # everything else would find what it left
        with alone("pipelines"):
            did |= pipelines.step()
        with alone("schedules"):
            did |= schedules.step()
        with alone("pre-flight checks"):
            did |= preflight.send_asked(self.connection)
        with alone("dispatching"):
            did |= self.dispatcher.step()
        # After it: what waits for the slot of a run that has just ended need not wait for a look at all the others
        if time.monotonic() >= self._recover_at:
            with alone("recovery"):
                did |= self.recovery.step()
            with alone("approvals"):
                did |= approvals.look_again(self.connection)
            self._recover_at = time.monotonic() + self.RECOVERY_INTERVAL
        if time.monotonic() >= self._seal_at:
            with alone("sealing the audit trail"):
                seal()
            self._seal_at = time.monotonic() + self.SEAL_INTERVAL
        if time.monotonic() >= self._merge_at:
            with alone("summing up totals"):
                merge()
            self._merge_at = time.monotonic() + self.MERGE_INTERVAL
        if time.monotonic() >= self._tell_at:
            with alone("notifications"):
                did |= notices.step()
            with alone("watching parties and datasets"):
                self.conditions.step()
            self._tell_at = time.monotonic() + self.TELL_INTERVAL
        with alone("upkeep"):
            did |= self.upkeep.step()
        if self._redis_was_away:
            Execution.objects.active().exclude(waiting_for="").update(waiting_for="")
            self._redis_was_away = False
        return did

    def without_redis(self, error: RedisError) -> None:
        """Do what is possible while Redis is away or takes no writes: note that as the reason why executions wait."""
        self._redis_was_away = True
        self._beat()
        self.dispatcher.note_redis_away()
        away = trouble(error)
        Execution.objects.filter(status=Status.QUEUED).exclude(waiting_for=away).update(waiting_for=away)
        then = "takes writes again" if refusal(error) else "is back"
        away += f". The parties work on; what they report will be here when Redis {then}"
        Execution.objects.active().exclude(waiting_for=away).update(waiting_for=away)

    def _beat(self) -> None:
        """Note in the database, every few seconds, that this coordinator makes steps."""
        if time.monotonic() >= self._beat_at:
            if not self._has_begun:
                with alone("notifications"):
                    tell_of_absence()
                self._has_begun = True
            Beat.note(self.listener.consumer)
            self._beat_at = time.monotonic() + self.BEAT_INTERVAL
