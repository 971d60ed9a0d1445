"""What the dispatcher knows of the queue between its looks at the whole of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis

from controlplane.models import Party
from executions.coordinator.dispatch import Dispatcher
from executions.coordinator.waiting import WaitingList
from executions.models import Execution
from executions.states import Status, transition
from tests.simulated import add_worker, pass_checks, status, submit


@pytest.fixture
def queue(parties: dict[str, Party], monkeypatch: pytest.MonkeyPatch) -> WaitingList:
    """Was read a moment ago, and will not be read as a whole again."""
    monkeypatch.setattr(WaitingList, "WHOLE_SECONDS", 3600)
    submit()
    found = WaitingList()
    found.read()
    return found


def keys(queue: WaitingList) -> list[object]:
    return [waiting.pk for waiting in queue.read()]


def test_it_sees_at_once_what_is_submitted_and_in_its_order(queue: WaitingList) -> None:
    [first] = keys(queue)
    later, urgent = submit(), submit(priority=5)
    assert keys(queue) == [urgent.pk, first, later.pk]


def test_it_sees_at_once_what_is_queued_again(queue: WaitingList) -> None:
    [first] = keys(queue)
    execution = Execution.objects.get(pk=first)
    transition(execution, Status.RETRY)
    transition(execution, Status.QUEUED, queued_at=timezone.now(), retries={"NetworkError": 1})
    assert {"NetworkError": 1} in [waiting.retries for waiting in queue.read()]


@pytest.mark.parametrize("behind", [timedelta(seconds=5), timedelta(minutes=5)])
def test_it_sees_what_another_clock_queued(
    queue: WaitingList, monkeypatch: pytest.MonkeyPatch, behind: timedelta
) -> None:
    """At once within some seconds, and otherwise when it reads the whole queue."""
    old = Execution.objects.create(task_type="psi", parties=["alice"], queued_at=timezone.now() - behind)
    assert (old.pk in keys(queue)) == (behind < WaitingList.OVERLAP)
    queue._whole_at = 0
    assert old.pk in keys(queue)


def test_it_leaves_out_what_is_gone_when_it_reads_the_whole_queue(queue: WaitingList) -> None:
    Execution.objects.get().cancel()
    kept = submit()
    queue._whole_at = 0
    assert keys(queue) == [kept.pk]


def test_it_reads_no_more_of_a_long_queue_than_what_is_new(queue: WaitingList) -> None:
    Execution.objects.update(queued_at=timezone.now() - timedelta(minutes=1))
    queue._whole_at = 0
    queue.read()
    new = submit()
    with CaptureQueriesContext(database) as queries:
        queue.read()
    assert len(queries) == 2
    with CaptureQueriesContext(database) as queries:
        assert len(queue.read()) == 2
    assert len(queries) == 1
    assert "queued_at" in queries[0]["sql"].partition("WHERE")[2]
    Execution.objects.filter(pk=new.pk).update(waiting_for="a reason")
    assert [w.waiting_for for w in queue.read()] == ["", "a reason"]


def test_what_was_cancelled_a_moment_ago_is_neither_dispatched_nor_in_the_way(
    queue: WaitingList, connection: Redis
) -> None:
    add_worker(connection, "alice")
    add_worker(connection, "bob")
    Execution.objects.all().delete()
    dispatcher = Dispatcher(connection)
    first = submit(priority=9)
    Execution.objects.update(queued_at=timezone.now() - 2 * Dispatcher.HOLD_AFTER)
    dispatcher.step()
    first.refresh_from_db()
    first.cancel()
    second = submit()
    dispatcher.step()
    pass_checks()
    dispatcher.step()
    assert (status(first), status(second)) == (Status.CANCELLED, Status.DISPATCHED)


def test_a_step_that_takes_long_lets_the_coordinator_listen_and_goes_on(
    parties: dict[str, Party], connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dispatcher, "STEP_SECONDS", 0)
    for party in parties:
        for number in range(3):
            add_worker(connection, party, str(number))
    executions = [submit() for _ in range(3)]
    dispatcher = Dispatcher(connection)
    for number in range(1, 4):
        assert dispatcher.step() == (number < 3), "whether the next step is to come at once"
        assert sum(e.preflights.count() for e in executions) == number
    pass_checks()
    for number in range(1, 4):
        assert dispatcher.step()
        assert Execution.objects.filter(status=Status.DISPATCHED).count() == number
