"""The front page: what happened in the last day, and the way to a first run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Count
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from controlplane.access import Access
from controlplane.admin.permissions import may
from controlplane.models import ClusterConfig, Dataset, Party, SPUConfig, Task
from executions.admin.execution_page import duration
from executions.models import Execution
from executions.permissions import VIEW
from executions.states import COLOURS, Status


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the front page: what happened in the last day, and the steps to a first run."""
    context["may_see_executions"] = may(request, VIEW)
    if may(request, "controlplane.add_task"):
        context["steps"] = first_steps(Access.of(request))
    if not context["may_see_executions"]:
        return context
    rows = Access.of(request).visible(Execution.objects.defer("documents", "result"))
    recent = rows.filter(created_at__gte=timezone.now() - timedelta(hours=24))
    numbers = dict(recent.order_by().values_list("status").annotate(Count("pk")))
    always = (Status.QUEUED, Status.RUNNING, Status.SUCCESS, Status.FAILURE)
    context["counts"] = [
        {"status": s.value, "label": s.label, "number": numbers.get(s, 0), "colour": COLOURS[s]}
        for s in Status
        if s in always or numbers.get(s)
    ]
    latest: list[Any] = list(rows.order_by("-created_at")[:10])
    for execution in latest:
        execution.colour = COLOURS[execution.status]
        execution.duration = duration(execution.created_at, execution.ended_at)
    context |= {
        "latest": latest,
        "failed": recent.filter(status=Status.FAILURE).order_by("-created_at")[:5],
        "executions_url": reverse("admin:executions_execution_changelist"),
    }
    return context


def first_steps(access: Access) -> list[dict[str, Any]]:
    """Return the steps that are left before something can run; empty once something has run."""
    if access.visible(Execution.objects.all()).exists():
        return []
    chain = (
        (Party, 2, "Register two parties", "each with the address and ports of its host"),
        (Dataset, 2, "Name a dataset of each", "as in the party.toml on the party's own host"),
        (ClusterConfig, 1, "Put the parties into a cluster configuration", "who takes part, and how they talk"),
        (SPUConfig, 1, "Make an SPU configuration", "the defaults are good for a start"),
        (Task, 1, "Compose a task", "and press Run now on its page"),
    )
    found = []
    for model, enough, title, why in chain:
        page = "changelist" if (done := access.visible(model.objects.all()).count() >= enough) else "add"
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}")
        found.append({"title": title, "why": why, "done": done, "url": url})
    return found
