"""What may pass between control plane and party through RQ: one function, as JSON, with no callbacks."""

from __future__ import annotations

from typing import Any

import rq.job
from rq.job import Job
from rq.utils import import_attribute

#: The only function that a job may name.
TASK_FUNCTION = "workers.runtime.task_run.execute_secretflow_task"

#: Field of a job's hash that tells a worker not to begin it. The coordinator sets it and then checks whether the job
#: has started; the compute process sets "started" and then looks for the field. So one of the two always notices.
STOP_MARK = "stop_requested"


class JobRefused(Exception):
    """The job names something that this system never runs."""


def install_gate() -> None:
    """Let RQ import nothing but the task function, in this process.

    RQ 3.0 imports by dotted path whatever function and callbacks a job's hash in Redis names, even when a web page
    only counts a registry, and whoever can write to Redis can write such a hash.
    """

    def gated(name: str) -> Any:
        if name != TASK_FUNCTION:
            raise JobRefused(f"{name!r} is not on the allow-list of this system")
        return import_attribute(name)

    rq.job.import_attribute = gated
    # The target address of webhooks comes from the job's hash as well
    Job.send_webhooks = lambda self, *args, **kwargs: None


class PartyJob(Job):
    """A job of ours: no callbacks, no webhooks, no method calls on unpickled instances."""

    @property
    def func(self) -> Any:
        if self.func_name != TASK_FUNCTION or self.instance is not None:
            raise JobRefused(f"{self.func_name!r} is not on the allow-list of this system")
        return super().func
