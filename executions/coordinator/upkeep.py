"""Removes once an hour what is old and what is left over, a little in each step."""

from __future__ import annotations

import logging
import time

from redis import Redis
from redis.exceptions import ResponseError

from controlplane.environment import environment
from executions.coordinator.isolation import alone, tell
from executions.coordinator.leftovers import Leftovers
from executions.coordinator.pruning import Pruning, told

log = logging.getLogger(__name__)


class Upkeep:
    """One pass an hour. Several coordinators may be at it at once; what one has removed the others no longer find."""

    INTERVAL = 3600.0
    #: Seconds from a coordinator's start to its first pass: it has other things to do then.
    FIRST_AFTER = 60.0
    #: Seconds of the coordinator's step that this may take.
    SLICE = 0.05

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self._at = time.monotonic() + self.FIRST_AFTER
        self._pruning: Pruning | None = None
        self._leftovers: Leftovers | None = None

    def step(self) -> bool:
        """Remove a little, if a pass is due. Returns whether there is more to do. Raises RedisError or DatabaseError;
        the next step then goes on."""
        if time.monotonic() < self._at:
            return False
        if self._pruning is None:
            self._pruning = Pruning() if environment.prune_hourly else Pruning(only=())
            self._leftovers = Leftovers(self.connection)
        if self._pruning.step(self.SLICE):
            return True
        if self._leftovers and self._clear(self._leftovers):
            return True
        self._end(self._pruning)
        return False

    def _clear(self, leftovers: Leftovers) -> bool:
        """Remove some of what is left over in Redis. Returns whether there is more."""
        try:
            with alone("removing leftovers from Redis"):
                return leftovers.step()
        except ResponseError as error:  # a server that does not know or allow a command; the next hour tries again
            tell("removing leftovers from Redis", error)
        return False

    def _end(self, pruning: Pruning) -> None:
        removed = pruning.removed.copy()
        if self._leftovers:
            removed["consumers of dead coordinators"] = self._leftovers.consumers
            removed["keys of deleted parties"] = self._leftovers.keys
        if line := told(removed):
            log.info("removed what was old: %s", line)
        self._pruning = self._leftovers = None
        self._at = time.monotonic() + self.INTERVAL
