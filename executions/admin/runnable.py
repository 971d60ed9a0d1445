"""What the admin of tasks and of pipelines have in common: a button that runs one."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from controlplane.admin.permissions import may
from executions.permissions import RUN


class Runnable:
    """Has unfold ask, by ``permissions=("run",)`` of an action, who may run things."""

    def has_run_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, RUN)
