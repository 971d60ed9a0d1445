"""In whose name a schedule may run something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controlplane.access import Access
from controlplane.models import DeviceConfig, Schedule, Task
from executions.permissions import RUN


def objection(schedule: Schedule) -> str:
    """Return why a schedule must not run in its owner's name now; nothing if it may.

    The owner may have lost the right to run things. And whoever may change what it runs must not thereby run something
    in the owner's name: after such a change somebody who may run things has to confirm the schedule. Changes without a
    user were made on the control plane's own host, by commands, or by the coordinator.
    """
    owner = schedule.owner
    if owner is None:
        return ""
    access = Access(owner)
    if not (owner.is_active and access.may(RUN)):
        return f"{owner}, its owner, may not run anything any more; have somebody confirm it who may"
    if not access.covers(schedule):
        return f"{owner}, its owner, has no grant for all parties that it involves; have somebody confirm it who has"
    for thing in _all_that_it_runs(schedule):
        by_others = thing.history.filter(history_date__gt=schedule.confirmed_at).exclude(history_user=None)
        change = by_others.exclude(history_user=owner).select_related("history_user").first()
        if change:
            kind = thing._meta.verbose_name
            return (
                f"{kind} {thing} was changed by {change.history_user} after {owner} had confirmed the schedule; "
                "have somebody look at it and confirm the schedule who may run it"
            )
    return ""


def _all_that_it_runs(schedule: Schedule) -> Iterator[Any]:
    """Yield the task or pipeline, the tasks of the pipeline, and the configurations of all tasks."""
    if schedule.pipeline:
        yield schedule.pipeline
        names = schedule.pipeline.task_names()
        tasks = list(Task.objects.filter(name__in=names).select_related("cluster", "spu", "heu"))
    else:
        tasks = [schedule.task] if schedule.task else []
    for task in tasks:
        yield task
        yield from (config for config in (task.cluster, task.spu, task.heu) if config)
        devices = task.devices if isinstance(task.devices, dict) else {}
        yield from DeviceConfig.objects.filter(layer__in=devices, name__in=[str(name) for name in devices.values()])
