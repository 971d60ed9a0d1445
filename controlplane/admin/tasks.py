"""The admin of tasks, and the page of task types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from controlplane.admin.base import ConfigAdmin
from controlplane.admin.filters import ClusterPartyFilter, DocumentTypeFilter
from controlplane.admin.scoped import ScopedSelectFilter
from controlplane.forms.task import TaskForm
from controlplane.language import translated
from controlplane.models import (
    Task,
)
from controlplane.task_types import described, parameters
from workers.contract.registry import TASK_EXECUTOR_REGISTRY, further_layers


@admin.register(Task)
class TaskAdmin(ConfigAdmin):
    form = TaskForm
    list_display: Any = ("name", "task_type", "cluster", "datasets", "description", "shown_changed")
    list_filter: Any = (DocumentTypeFilter, ClusterPartyFilter, ("cluster", ScopedSelectFilter))
    list_filter_submit = True
    list_select_related = ("cluster",)
    none_yet = _("No task yet. Add one: a cluster, its devices, and what to compute.")
    csv_columns = (
        ("name", "name"), ("task type", lambda task: task.document.get("task_type", "")), ("cluster", "cluster"),
        ("parties", lambda task: " ".join(sorted(task.involved()))), ("description", "description"),
        ("version", "version"), ("changed", "updated_at"),
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("name", "description")}),
        (_("Parties and devices"), {"fields": ("cluster", "spu", "heu", *further_layers())}),
        (_("Task"), {"fields": ("task_type", "document")}),
        (_("Running it"), {"fields": Task.option_names()}),
    )

    @display(description=_("Task type"))
    def task_type(self, task: Task) -> str:
        name = task.document.get("task_type", "") if task.pk else ""
        return translated(TASK_EXECUTOR_REGISTRY[name].title) if name in TASK_EXECUTOR_REGISTRY else str(name)

    @display(description=_("Datasets"))
    def datasets(self, task: Task) -> str:
        return ", ".join(f"{party}/{name}" for party, name in task.document.get("data_sources", {}).items())

    def get_urls(self) -> list[Any]:
        types = self.admin_site.admin_view(self.types_view)
        return [path("types/", types, name="controlplane_task_types"), *super().get_urls()]

    def types_view(self, request: HttpRequest) -> HttpResponse:
        """Return the page that shows what every task type does, with its parameters and an example."""
        types = [
            _shown(found, found["name"])
            | {"variants": [_shown(variant, found["name"], variant["name"]) for variant in found["variants"]]}
            for found in described()
        ]
        context = self.admin_site.each_context(request) | {
            "title": gettext("Task types"),
            "opts": self.opts,
            "types": types,
        }
        return TemplateResponse(request, "controlplane/task_types.html", context)


def _shown(found: Mapping[str, Any], task_type: str, variant: str = "") -> dict[str, Any]:
    """Return what the page shows of a task type or of a variant."""
    told = parameters(TASK_EXECUTOR_REGISTRY[task_type], variant)
    text = json.dumps(found["request"], indent=2) if found["request"] else ""
    return {**found, "parameters": told, "request_text": text}
