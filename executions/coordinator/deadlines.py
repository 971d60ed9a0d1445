"""Ends executions that have passed their deadline."""

from __future__ import annotations

from django.utils import timezone

from executions.coordinator.isolation import alone
from executions.coordinator.settle import stop_at_work
from executions.models import Execution
from executions.states import ACTIVE, Status, transition

#: Statuses in which no party is at work. A retry is not among them: with a deadline it is due before that.
_WAITING = (Status.QUEUED, Status.AWAITING_APPROVAL)
_ENDED_HERE = (*_WAITING, *ACTIVE - {Status.CANCELLING})


def end_late() -> bool:
    """Fail what has not ended by its deadline: at once if it waits, and by stopping its parties if they are at work.
    Returns whether anything was done."""
    late = Execution.objects.filter(deadline__lte=timezone.now(), ended_at=None, status__in=_ENDED_HERE)
    done = False
    for execution in late.only("id", "status", "attempt", "deadline"):
        with alone(f"the deadline of execution {execution.pk}"):
            done |= _end(execution)
    return done


def _end(execution: Execution) -> bool:
    error = f"it had not ended by its deadline, {execution.deadline:%Y-%m-%d %H:%M:%S} UTC"
    if execution.status in _WAITING:
        told = {"error": error, "error_type": "ResourceError", "error_stage": "dispatch"}
        return transition(execution, Status.FAILURE, why=error, **told)
    return stop_at_work(execution, error)
