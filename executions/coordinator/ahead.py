"""The checks of what is next in line, while its parties are still busy: their slots need not wait for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from uuid import UUID

from redis import Redis

from executions.coordinator.capacity import Capacity
from executions.coordinator.isolation import alone
from executions.coordinator.preflight import CannotCheck, latest_of, request
from executions.coordinator.waiting import Waiting
from executions.models import Execution, Preflight
from executions.states import Status
from workers.contract.errors import ConfigError


class Ahead:
    """Has each execution checked ahead once; whoever waits for hours is checked again when its turn has come."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        #: By execution, the checks that were requested ahead; None where there had been some already.
        self._requested: dict[UUID, UUID | None] = {}
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
        if len(self._requested) > 2 * len(queued) + 100:
            there = {execution.pk for execution in queued}
            self._requested = {pk: found for pk, found in self._requested.items() if pk in there}
        for waiting in self._first:
            if waiting.pk not in self._requested and all(_has_workers(capacity[p]) for p in waiting.parties):
                self._requested[waiting.pk] = None
                with alone(f"execution {waiting.pk} could not be checked ahead"), suppress(CannotCheck, ConfigError):
                    self._request(waiting.pk, capacity)

    def _request(self, pk: UUID, capacity: Mapping[str, Capacity]) -> None:
        execution = Execution.objects.get(pk=pk)
        if execution.status == Status.QUEUED and latest_of(execution) is None:
            made = request(self.connection, execution, capacity=capacity, is_ahead=True)
            self._requested[pk] = made.pk

    def has_failed(self, preflight: Preflight) -> bool:
        """Return whether these checks were requested ahead, and failed: perhaps for what the run before it took."""
        assert preflight.execution_id
        return self._requested.get(preflight.execution_id) == preflight.pk and preflight.state == "failed"


def _has_workers(party: Capacity) -> bool:
    return party.registered and not party.stranger and party.alive > 0
