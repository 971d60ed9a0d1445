"""Watches which tasks are not valid any more: what they name is changed by others, by the API or by a profile."""

from __future__ import annotations

import time

from django.db.models import CharField, Exists, OuterRef
from django.db.models.functions import Cast

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
        noted = Condition.objects.filter(kind=Condition.TASK)
        was_bad = Exists(noted.filter(is_bad=True, key=Cast(OuterRef("pk"), CharField())))
        rows = Task.objects.filter(pk__gt=self._after).annotate(was_bad=was_bad).order_by("pk")
        tasks = list(rows.select_related("cluster", "spu", "heu")[: self.AT_ONCE])
        for task in tasks:
            self._after = task.pk
            is_bad = not self._is_valid(task)
            if is_bad != task.was_bad:
                Condition.turns(Condition.TASK, str(task.pk), is_bad)
            if time.monotonic() > until:
                return
        if len(tasks) < self.AT_ONCE:
            self._after = 0
            there = Task.objects.annotate(key=Cast("pk", CharField())).order_by().values("key")
            # Read first: a delete that finds nothing would still lock SQLite for all others
            gone = list(noted.exclude(key__in=there).values_list("pk", flat=True)[: Condition.MOST_TASKS])
            Condition.objects.filter(pk__in=gone).delete()

    def _is_valid(self, task: Task) -> bool:
        if self._catalogue is None or time.monotonic() > self._read_at + self.READ_AGAIN:
            self._catalogue, self._read_at = ComposingCatalogue(Task.objects.all()), time.monotonic()
        try:
            task.validate(self._catalogue.without(task.pk))
        except DocumentsInvalid:
            return False
        return True
