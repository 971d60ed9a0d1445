"""The checks of what is next in line, while its parties are still busy: their slots need not wait for them."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from uuid import UUID

from redis import Redis

from executions.coordinator.capacity import Capacity
from executions.coordinator.isolation import alone
from executions.coordinator.preflight import CannotCheck, latest_of, request
from executions.coordinator.waiting import Waiting
from executions.models import Execution
from executions.states import Status
from workers.contract.errors import ConfigError


class Ahead:
    """Has each execution checked ahead once; whoever waits for hours is checked again when its turn has come."""

    #: Seconds after which a step requests no more of them: many parties may each have a next one.
    STEP_SECONDS = 0.05

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        #: Executions that have been looked at.
        self._known: set[UUID] = set()

    def check(self, queued: Sequence[Waiting], capacity: Mapping[str, Capacity], checking: Collection[UUID]) -> None:
        """Request checks of what is next at all of its parties and lacks nothing but a slot. Raises RedisError.

        ``queued``: in the order in which they go; ``checking``: those that are being checked in their turn.
        """
        if len(self._known) > 2 * len(queued) + 100:
            self._known &= {waiting.pk for waiting in queued}
        end = time.monotonic() + self.STEP_SECONDS
        awaited: set[str] = set()
        for waiting in queued:
            if waiting.is_gone:
                continue
            is_next = awaited.isdisjoint(waiting.parties)
            awaited.update(waiting.parties)
            if not is_next or waiting.pk in self._known or waiting.pk in checking:
                continue
            if all(capacity[party].takes_orders and capacity[party].alive for party in waiting.parties):
                self._known.add(waiting.pk)
                with alone(f"execution {waiting.pk} could not be checked ahead"), suppress(CannotCheck, ConfigError):
                    self._request(waiting.pk, capacity)
            if len(awaited) == len(capacity) or time.monotonic() > end:
                return

    def _request(self, pk: UUID, capacity: Mapping[str, Capacity]) -> None:
        execution = Execution.objects.get(pk=pk)
        if execution.status == Status.QUEUED and latest_of(execution) is None:
            request(self.connection, execution, capacity=capacity, is_ahead=True)
