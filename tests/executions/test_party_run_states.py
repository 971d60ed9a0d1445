"""Party runs change their status as the table says, whoever changes it: the listener's events or the recovery."""

from __future__ import annotations

from itertools import product
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from executions.coordinator.listener import fold
from executions.coordinator.messages import EventMessage
from executions.coordinator.recovery import _decide
from executions.models import Execution, PartyRun
from executions.states import RUN_ENDED, TRANSITIONS, RunStatus

TABLE = TRANSITIONS[RunStatus]
#: Statuses, stages and data of events that parties may send.
EVENTS = [*product(("RUNNING", "SUCCESS", "FAILURE", "RETRY"), ("", "task_execution", "cleanup"), ({}, {"error": "x"}))]


def folded(start: RunStatus, *events: tuple[str, str, dict[str, Any]], stop: bool) -> RunStatus:
    """The status of a run after these events."""
    run = PartyRun(status=start, stop_requested_at=timezone.now() if stop else None)
    messages = [
        EventMessage(
            task_request_id=uuid4(),
            party="alice",
            attempt=1,
            sequence=sequence,
            status=status,
            timestamp=timezone.now(),
            data=data | {"stage": stage},
        )
        for sequence, (status, stage, data) in enumerate(events, 1)
    ]
    fold(run, messages)
    return RunStatus(run.status)


def test_the_table_has_every_status_and_those_that_have_ended_stay() -> None:
    assert set(TABLE) == set(RunStatus)
    assert {status for status, following in TABLE.items() if not following} == RUN_ENDED


@pytest.mark.parametrize("start", RunStatus)
def test_events_make_no_change_outside_the_table(start: RunStatus) -> None:
    for event, stop in product(EVENTS, (False, True)):
        end = folded(start, event, stop=stop)
        assert end == start or end in TABLE[start], (event, stop)


@pytest.mark.parametrize("first", EVENTS)
def test_events_in_one_batch_make_no_change_outside_the_table(first: Any) -> None:
    for start, second, stop in product(RunStatus, EVENTS, (False, True)):
        middle, end = folded(start, first, stop=stop), folded(start, first, second, stop=stop)
        assert end == middle or end in TABLE[middle], (start, second, stop)


def test_recovery_makes_every_change_of_the_table_and_no_other(execution: Execution) -> None:
    run = execution.runs.get(party__name="alice")
    for start, to in product(RunStatus, RunStatus):
        PartyRun.objects.filter(pk=run.pk).update(status=start)
        assert _decide(run, to) == (to in TABLE[start]), (start, to)
        assert PartyRun.objects.get(pk=run.pk).status == (to if to in TABLE[start] else start)


def test_every_change_of_the_table_is_made_by_events_or_by_recovery() -> None:
    made = {
        (start, folded(start, event, stop=stop)) for start in TABLE for event in EVENTS for stop in (False, True)
    } | {
        (start, to) for start in (RunStatus.DISPATCHED, RunStatus.RUNNING) for to in (RunStatus.STOPPED, RunStatus.LOST)
    }
    assert {(start, to) for start, following in TABLE.items() for to in following} == {
        (start, to) for start, to in made if start != to
    }
