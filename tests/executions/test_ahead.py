"""What is next in line is checked while its parties are busy, and goes as soon as they are not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from redis import Redis
from rest_framework.test import APIClient

from controlplane.models import Party
from executions.coordinator.dispatch import Dispatcher
from executions.models import Execution, PartyCheck, Preflight
from executions.states import Status
from tests.simulated import a_second_later, add_worker, dispatch, finish, pass_checks, status, submit
from workers.contract.keys import ports_wanted


@pytest.fixture
def dispatcher(workers: None, connection: Redis) -> Dispatcher:
    return Dispatcher(connection)


@pytest.fixture
def running(dispatcher: Dispatcher) -> Execution:
    """Has the only worker of each party."""
    execution = submit()
    dispatch(dispatcher)
    assert status(execution) == Status.DISPATCHED
    return execution


def checked() -> list[Execution]:
    return [preflight.execution for preflight in Preflight.objects.order_by("requested_at") if preflight.execution]


def test_the_next_goes_without_waiting_for_checks(running: Execution, dispatcher: Dispatcher, api: APIClient) -> None:
    following, last = submit(), submit()
    for _ in range(3):
        assert not dispatcher.step()
    assert checked() == [running, following]
    pass_checks()
    assert not dispatcher.step()
    assert status(following) == Status.QUEUED, "its parties are busy"
    assert api.get(f"/api/v1/executions/{following.pk}/").json()["preflight"]["is_ahead"] is True
    finish(running)
    assert dispatcher.step()
    assert status(following) == Status.DISPATCHED
    dispatcher.step()
    assert checked() == [running, following, last]


def test_what_fails_while_another_one_runs_is_checked_again(
    running: Execution, dispatcher: Dispatcher, connection: Redis
) -> None:
    following = submit()
    dispatcher.step()
    lacks = [{"check": "memory", "error": "4 GiB are free, 5 are needed", "error_type": "ResourceError"}]
    PartyCheck.objects.filter(answered_at=None).update(answered_at=timezone.now(), results=lacks, facts={})
    finish(running)
    another = Dispatcher(connection)  # of another coordinator, or after a restart
    assert not another.step()
    assert status(following) == Status.QUEUED
    assert checked() == [running, following, following]
    pass_checks()
    assert another.step()
    assert status(following) == Status.DISPATCHED
    assert following.retries == {}


def test_it_is_checked_ahead_once_however_long_the_other_runs(running: Execution, dispatcher: Dispatcher) -> None:
    following = submit()
    dispatcher.step()
    pass_checks()
    PartyCheck.objects.update(answered_at=timezone.now() - timedelta(minutes=5))
    for _ in range(3):
        dispatcher.step()
    assert checked() == [running, following]
    finish(running)
    dispatcher.step()
    assert checked() == [running, following, following], "its turn has come, and the answers are old"


def test_a_party_without_a_worker_is_not_asked_ahead(
    running: Execution, dispatcher: Dispatcher, connection: Redis
) -> None:
    connection.delete("rq:worker:bob-1")
    a_second_later(dispatcher)
    submit()
    dispatcher.step()
    assert checked() == [running]


def test_no_live_session_ends_for_what_is_only_next(
    running: Execution, dispatcher: Dispatcher, parties: dict[str, Party], connection: Redis
) -> None:
    alice = parties["alice"]
    worker = add_worker(connection, "alice")
    connection.hset(worker, "ports", " ".join(map(str, range(alice.port_first, alice.port_last + 1))))
    a_second_later(dispatcher)
    following = submit()
    dispatcher.step()
    assert checked() == [running]
    assert not connection.exists(ports_wanted("alice"))
    finish(running)
    dispatcher.step()
    assert connection.exists(ports_wanted("alice")), "its turn has come"
    assert status(following) == Status.QUEUED
