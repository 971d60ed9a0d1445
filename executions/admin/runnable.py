"""Who may run something, in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.utils import unquote
from django.http import HttpRequest

from controlplane.access import Access
from controlplane.admin.permissions import may
from executions.permissions import RUN


def may_run(request: HttpRequest, row: Any) -> bool:
    """Return whether the user of the request may run a row, or what it was once more: with all its parties."""
    return may(request, RUN) and Access.of(request).covers(row)


class Runnable:
    """Part of the admin of tasks and of pipelines: answers unfold's question who may use an action with
    ``permissions=("run",)``."""

    def has_run_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        if not may(request, RUN):
            return False
        row = self.get_object(request, unquote(str(object_id))) if object_id else None  # type: ignore[attr-defined]
        return row is None or may_run(request, row)  # one that is not there is not found
