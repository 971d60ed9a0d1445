"""The control plane's clock is put forward or back by an hour: nothing ends for it, and nothing waits an hour."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from redis import Redis

from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.recovery import Recovery
from executions.coordinator.settle import settle
from executions.coordinator.waiting import WaitingList
from executions.models import Execution, PartyCheck, Preflight
from executions.patience import Patience
from executions.states import RunStatus, Status
from tests.simulated import begin, dispatch, finish, pass_checks, status, submit

Step = Callable[[float], None]


@pytest.fixture(autouse=True)
def right_clock() -> None:
    """Not here."""


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Step:
    """Put the clock so many hours ahead."""
    now = timezone.now

    def put(hours: float) -> None:
        monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(hours=hours))
        for model, name in ((Preflight, "requested_at"), (PartyCheck, "heard_at")):
            monkeypatch.setattr(model._meta.get_field(name), "default", timezone.now)

    return put


@pytest.fixture
def running(workers: None, connection: Redis) -> Execution:
    execution = submit()
    dispatch(Dispatcher(connection))
    begin(execution, connection)
    return execution


@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.parametrize("hours", [1.5, -1.5])
def test_a_run_goes_on(running: Execution, connection: Redis, step: Step, hours: float, is_new: bool) -> None:
    recovery = Recovery(connection)
    recovery.step()
    step(hours)
    recovery = Recovery(connection) if is_new else recovery
    recovery.step()
    recovery.step()
    assert (status(running), running.error) == (Status.RUNNING, "")
    assert not running.runs.exclude(stop_requested_at=None).exists()


@pytest.mark.parametrize("is_new", [False, True])
def test_a_job_that_has_not_begun_is_not_given_up(workers: None, connection: Redis, step: Step, is_new: bool) -> None:
    execution = submit()
    dispatch(Dispatcher(connection))
    recovery = Recovery(connection)
    recovery.step()
    step(1)
    (Recovery(connection) if is_new else recovery).step()
    assert not execution.runs.exclude(error="").exists()
    assert status(execution) == Status.DISPATCHED


def test_a_limit_is_kept_where_the_clock_was_put_back(
    running: Execution, connection: Redis, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery = Recovery(connection)
    recovery.step()
    step(-1)
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 3601)
    recovery.step()
    running.refresh_from_db()
    assert running.error == "the run passed its time limit of 3600 s"


def test_one_that_waits_is_not_given_up(parties: Any, connection: Redis, step: Step) -> None:
    execution = submit(dispatch_limit_seconds=60)
    dispatcher = Dispatcher(connection)
    dispatcher.step()
    step(1)
    dispatcher.step()
    Dispatcher(connection).step()
    assert status(execution) == Status.QUEUED


def test_one_that_was_submitted_by_a_wrong_clock_keeps_its_place(parties: Any, step: Step) -> None:
    queue = WaitingList()
    step(1)
    first = submit()
    queue.read()
    step(0)
    second = submit()
    assert [waiting.pk for waiting in queue.read()] == [first.pk, second.pk]


def test_a_retry_comes_though_the_clock_was_put_back(running: Execution, connection: Redis, step: Step) -> None:
    fail(running)
    assert status(running) == Status.RETRY
    step(-1)
    Recovery(connection).queue_due_retries()
    assert status(running) == Status.QUEUED


def test_checks_of_the_try_before_do_not_count_for_the_next(workers: None, connection: Redis, step: Step) -> None:
    execution = submit()
    dispatcher, recovery = Dispatcher(connection), Recovery(connection)
    dispatcher.step()
    wrong = [{"check": "disk", "error": "disk is short", "error_type": "ResourceError"}]
    PartyCheck.objects.update(answered_at=timezone.now(), results=wrong)
    dispatcher.step()
    assert status(execution) == Status.RETRY
    step(-1)
    recovery.queue_due_retries()
    dispatcher.step()
    assert (status(execution), execution.retries) == (Status.QUEUED, {"ResourceError": 1})
    pass_checks()
    dispatcher.step()
    assert (status(execution), execution.attempt) == (Status.DISPATCHED, 1)


def test_checks_are_found_that_were_asked_for_after_the_clock_was_put_back(
    workers: None, connection: Redis, step: Step
) -> None:
    execution = submit()
    step(-1)
    dispatch(Dispatcher(connection))
    assert status(execution) == Status.DISPATCHED
    assert execution.preflights.count() == 1


@pytest.mark.parametrize("hours", [1, -1])
def test_a_host_that_is_checking_is_not_silent(workers: None, connection: Redis, step: Step, hours: float) -> None:
    """Two coordinators' clocks differ: the one reads the signs of life, the other one judges them."""
    execution = submit()
    dispatcher = Dispatcher(connection)
    dispatcher.step()
    step(hours)
    dispatcher.step()
    Dispatcher(connection).step()
    assert (status(execution), execution.retries) == (Status.QUEUED, {})


def test_a_host_is_silent_though_the_clock_was_put_back(
    workers: None, connection: Redis, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = submit()
    dispatcher = Dispatcher(connection)
    dispatcher.step()
    step(-1)
    dispatcher.step()
    monkeypatch.setattr(Preflight, "SILENCE", timedelta())
    dispatcher.step()
    assert (status(execution), execution.retries) == (Status.RETRY, {"ResourceError": 1})


def fail(execution: Execution) -> None:
    """Its parties' link broke."""
    execution.runs.update(error="x", error_type="NetworkError")
    finish(execution, RunStatus.FAILURE)
    settle(execution.pk)


def test_time_is_counted_from_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("executions.patience.time.monotonic", lambda: clock[0])
    limit, now = timedelta(seconds=60), timezone.now()
    patience = Patience()
    patience.look({"old": now - timedelta(hours=1)})
    assert patience.seconds("old", now - timedelta(hours=1), limit) == 30, "half of it is believed"
    clock[0] += 31
    assert patience.is_over("old", now - timedelta(hours=1), limit)
    patience.look({"new": now - timedelta(hours=1), "future": now + timedelta(hours=1)})
    assert patience.seconds("new", now - timedelta(hours=1), limit) == 30
    clock[0] += 2
    patience.look({"newer": now - timedelta(hours=1)})
    assert patience.seconds("newer", now - timedelta(hours=1), limit) == 2, "it was not there two seconds ago"
    assert patience.seconds("future", now + timedelta(hours=1), limit) == 0, "forgotten, and seen anew"
