"""A coordinator that stands still in the middle of a transaction does not keep the others waiting."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import InternalError, OperationalError, transaction
from django.db import connection as database
from django.db.backends.signals import connection_created

from executions.coordinator import locks
from executions.coordinator.settle import hold
from executions.models import Execution
from tests.composed import documents, make_parties


@pytest.mark.django_db(transaction=True)
def test_others_need_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if database.vendor != "postgresql":
        pytest.skip("SQLite's lock goes with its process alone")
    monkeypatch.setattr(locks, "LONGEST_PAUSE", 1)
    make_parties()
    execution = Execution.objects.submit(documents())
    holds, goes_on, ended = threading.Event(), threading.Event(), []

    def stand_still() -> None:
        connection_created.connect(locks.bound_pauses)
        try:
            with transaction.atomic():
                hold([execution.pk])
                holds.set()
                goes_on.wait(20)
                hold([execution.pk])
        except (OperationalError, InternalError) as error:
            ended.append(error)
        finally:
            connection_created.disconnect(locks.bound_pauses)
            database.close()

    other = threading.Thread(target=stand_still)
    other.start()
    assert holds.wait(10)
    began = time.monotonic()
    with transaction.atomic():
        hold([execution.pk])
    assert time.monotonic() - began < 5
    goes_on.set()
    other.join()
    assert ended, "it learns of it, and does the step again"
