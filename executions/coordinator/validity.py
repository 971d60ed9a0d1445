"""Watches which tasks are not valid any more: what they name is changed by others, by the API or by a profile."""

from __future__ import annotations

import time

from controlplane.models import Task
from controlplane.models.catalogue import ComposingCatalogue
from executions.models import Condition
from workers.contract.problems import DocumentsInvalid


class Validity:
    """Looks at some tasks in each step, all in turn: thousands of them must not keep a coordinator from its work."""

    #: Seconds that a step may take once it has begun with a task, and for which what is registered is not read again.
    STEP_SECONDS, READ_AGAIN = 0.05, 60.0
    AT_ONCE = 50

    def __init__(self) -> None:
        self._after = 0
        self._catalogue: ComposingCatalogue | None = None
        self._read_at = 0.0

    def step(self) -> None:
        """Look at the next tasks."""
        until = time.monotonic() + self.STEP_SECONDS
        rows = Task.objects.filter(pk__gt=self._after).select_related("cluster", "spu", "heu").order_by("pk")
        tasks = list(rows[: self.AT_ONCE])
        known = dict(Condition.objects.filter(kind=Condition.TASK).values_list("key", "is_bad"))
        for task in tasks:
            self._after = task.pk
            is_bad = not self._is_valid(task)
            if is_bad != known.get(str(task.pk), False):
                Condition.turns(Condition.TASK, str(task.pk), is_bad)
            if time.monotonic() > until:
                return
        if len(tasks) < self.AT_ONCE:
            self._after = 0
            there = {str(pk) for pk in Task.objects.values_list("pk", flat=True)} if known else set()
            Condition.objects.filter(kind=Condition.TASK, key__in=known.keys() - there).delete()

    def _is_valid(self, task: Task) -> bool:
        if self._catalogue is None or time.monotonic() > self._read_at + self.READ_AGAIN:
            self._catalogue, self._read_at = ComposingCatalogue(Task.objects.all()), time.monotonic()
        try:
            task.validate(self._catalogue.without(task.pk))
        except DocumentsInvalid:
            return False
        return True
