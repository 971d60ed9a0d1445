"""The checks of what is next in line, while its parties are still busy: their slots need not wait for them."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
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
        #: In this step: the parties that something waits for, and the first that waits for each of them.
        self._awaited: set[str] = set()
        self._first: list[Waiting] = []

    def begin_step(self) -> None:
        self._awaited, self._first = set(), []

    def note(self, execution: Waiting, *, is_its_turn: bool) -> None:
        """Note one that waits, in the order in which they go; ``is_its_turn``: for something else than a slot."""
        if not is_its_turn and self._awaited.isdisjoint(execution.parties):
            self._first.append(execution)
        self._awaited.update(execution.parties)

    def check(self, capacity: Mapping[str, Capacity], queued: Collection[Waiting]) -> None:
        """Request checks of what is next at all of its parties and lacks nothing but a slot. Raises RedisError."""
        if len(self._known) > 2 * len(queued) + 100:
            self._known &= {execution.pk for execution in queued}
        end = time.monotonic() + self.STEP_SECONDS
        for waiting in self._first:
            if waiting.pk in self._known or not all(_has_workers(capacity[party]) for party in waiting.parties):
                continue
            self._known.add(waiting.pk)
            with alone(f"execution {waiting.pk} could not be checked ahead"), suppress(CannotCheck, ConfigError):
                self._request(waiting.pk, capacity)
            if time.monotonic() > end:
                return

    def _request(self, pk: UUID, capacity: Mapping[str, Capacity]) -> None:
        execution = Execution.objects.get(pk=pk)
        if execution.status == Status.QUEUED and latest_of(execution) is None:
            request(self.connection, execution, capacity=capacity, is_ahead=True)


def _has_workers(party: Capacity) -> bool:
    return party.registered and not party.stranger and party.alive > 0
