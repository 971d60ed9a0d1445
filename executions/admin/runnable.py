"""The common part of the admin of tasks and of pipelines: who may press the button that runs one."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from controlplane.admin.permissions import may
from executions.permissions import RUN


class Runnable:
    """Answers unfold's question who may use an action with ``permissions=("run",)``."""

    def has_run_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may(request, RUN)
