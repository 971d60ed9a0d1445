"""Starts what schedules are due for."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from controlplane.audit.record import record
from controlplane.audit.signals import name_of
from controlplane.models import Schedule, Task
from executions.coordinator.isolation import alone
from executions.mandate import objection
from executions.models import Execution, PipelineRun, Tick
from workers.contract.problems import DocumentsInvalid

log = logging.getLogger(__name__)


def step() -> bool:
    """Fire the schedules that are due. Returns whether one was."""
    now = timezone.now()
    due = Schedule.objects.filter(next_run_at__lte=now).order_by("next_run_at").values_list("pk", flat=True)
    done = False
    for schedule in list(due):
        with alone(f"schedule {schedule} could not start what it is due for") as fault:
            done |= fire(schedule, now)
        if fault.reason:
            with alone(f"schedule {schedule}"):
                done |= fire(schedule, now, skipped=f"the control plane could not start it: {fault.reason}")
    return done


def fire(pk: int, now: datetime, skipped: str = "") -> bool:
    """Start what a schedule is due for, or note why not, and set its next time. If several times have passed, it starts
    once. ``skipped``: why it is not even tried."""
    with transaction.atomic():
        schedule = (
            Schedule.objects.select_for_update(of=("self",))
            .select_related("task__cluster", "task__spu", "task__heu", "pipeline", "owner")
            .filter(pk=pk, next_run_at__lte=now)
            .first()
        )
        if schedule is None or schedule.next_run_at is None:
            return False
        due = schedule.next_run_at
        if not schedule.ticks.filter(due_at=due).exists():  # possible if this host's clock was put back
            tick = Tick(schedule=schedule, due_at=due, at=now, skipped=skipped or _reason_to_skip(schedule))
            if not tick.skipped:
                try:
                    _submit(schedule, tick)
                except DocumentsInvalid as error:
                    tick.skipped = f"not valid now: {error}"
            tick.save()
            if tick.started:
                started = f"{tick.started._meta.verbose_name} {tick.started.pk}"
                record("start", name_of(schedule), details=started, by=schedule.owner)
        # not by save, which would make a version: no operator changed anything
        Schedule.objects.filter(pk=pk).update(next_run_at=schedule.time_after(now))
    return True


def _reason_to_skip(schedule: Schedule) -> str:
    if reason := objection(schedule):
        return reason
    last = schedule.ticks.filter(skipped="").select_related("execution", "pipeline_run").first()
    if last and last.started and not last.started.has_ended:
        return f"{last.started}, which it started at {last.at:%Y-%m-%d %H:%M} UTC, is still {last.started.status}"
    return ""


def _submit(schedule: Schedule, tick: Tick) -> None:
    """Submit the schedule's task or pipeline. Raises DocumentsInvalid."""
    target = schedule.target
    if isinstance(target, Task):
        tick.execution = Execution.objects.submit(
            target.documents(), task=target, by=schedule.owner, options=target.options()
        )
    else:
        tick.pipeline_run = PipelineRun.objects.submit(target, by=schedule.owner)
