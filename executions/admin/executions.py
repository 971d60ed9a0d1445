"""The admin of executions: shows them, cancels them, and runs them again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from unfold.decorators import display

from controlplane.access import Access
from controlplane.admin.confirm import confirm_page
from controlplane.admin.permissions import may
from executions.admin import execution_page as pages
from executions.admin.lineage import inputs_and_outputs, since
from executions.admin.read_only import ReadOnlyAdmin
from executions.admin.rerun import RerunForm
from executions.admin.result_views import ResultViews
from executions.admin.runnable import may_run
from executions.models import Execution, NotCancellable
from executions.permissions import CANCEL
from executions.states import COLOURS, Status
from workers.contract.layers import layers
from workers.contract.problems import DocumentsInvalid
from workers.contract.registry import TASK_EXECUTOR_REGISTRY


class TaskTypeFilter(admin.SimpleListFilter):
    """Offers the registry's task types: collecting the distinct values of a large table would be slow."""

    title = "task type"
    parameter_name = "task_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, executor.title) for name, executor in TASK_EXECUTOR_REGISTRY.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen and chosen not in TASK_EXECUTOR_REGISTRY:
            return queryset.none()
        return queryset.filter(task_type=chosen) if chosen else queryset


@admin.register(Execution)
class ExecutionAdmin(ResultViews, ReadOnlyAdmin):
    list_display = ("title", "shown_status", "task_type", "shown_parties", "stage", "shown_progress", "created", "took")
    list_filter = ("status", TaskTypeFilter, *ReadOnlyAdmin.list_filter)
    sortable_by = ("created",)
    ordering = ("-created_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Execution]:
        return super().get_queryset(request).defer("documents", "result")

    @display(description="Execution", header=True)
    def title(self, execution: Execution) -> list[str]:
        return [execution.name or execution.task_type, str(execution.pk)[:8]]

    @display(description="Status", label={s.label: c for s, c in COLOURS.items() if isinstance(s, Status)})
    def shown_status(self, execution: Execution) -> str:
        return str(execution.get_status_display())

    @display(description="Parties")
    def shown_parties(self, execution: Execution) -> str:
        return ", ".join(execution.parties)

    @display(description="Progress")
    def shown_progress(self, execution: Execution) -> str:
        return f"{pages.percent(execution.progress)} %"

    @display(description="Created", ordering="created_at")
    def created(self, execution: Execution) -> Any:
        return execution.created_at

    @display(description="Duration")
    def took(self, execution: Execution) -> str:
        return pages.duration(execution.created_at, execution.ended_at)

    def get_urls(self) -> list[Any]:
        views = (self.cancel_view, self.again_view, self.rerun_view)
        cancel, again, rerun = (self.admin_site.admin_view(view) for view in views)
        return [
            *self.result_urls(),
            path("<path:object_id>/cancel/", cancel, name="executions_execution_cancel"),
            path("<path:object_id>/again/", again, name="executions_execution_again"),
            path("<path:object_id>/rerun/", rerun, name="executions_execution_rerun"),
            *super().get_urls(),
        ]

    def _get(self, request: HttpRequest, object_id: str) -> Execution:
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            # the documents are large and do not change, so the fragment that is fetched every second leaves them out
            rows = Execution.objects.select_related("task", "submitted_by", "node__run").defer(
                "documents", "node__documents", "node__options"
            )
            return Access.of(request).visible(rows).get(pk=UUID(unquote(object_id)))
        except (ValueError, Execution.DoesNotExist):
            raise Http404("There is no such execution.") from None

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Return the page of an execution; with ``?fragment=1`` the part of it that changes."""
        execution = self._get(request, object_id)
        context = pages.live(execution, Access.of(request)) | {
            "may_cancel": may(request, CANCEL) and not execution.has_ended,
            "may_run_again": may_run(request, execution) and execution.has_ended,
            "again_url": reverse("admin:executions_execution_again", args=[execution.pk]),
            "rerun_url": reverse("admin:executions_execution_rerun", args=[execution.pk]),
            "may_see_task": may(request, "controlplane.view_task"),
            "may_see_schedule": may(request, "controlplane.view_schedule"),
            "may_see_datasets": may(request, "controlplane.view_dataset"),
            "compare_url": reverse("admin:executions_execution_compare") + f"?id={execution.pk}",
            "diagnosis_url": reverse("admin:executions_execution_diagnosis", args=[execution.pk]),
            "csv_url": reverse("admin:executions_execution_table", args=[execution.pk, 0]).removesuffix("0/"),
            "cancel_url": reverse("admin:executions_execution_cancel", args=[execution.pk]),
        }
        if "fragment" in request.GET:
            headers = {"X-Fragment": "1", "Cache-Control": "no-store"}
            return TemplateResponse(request, "executions/live.html", context, headers=headers)
        context |= self.admin_site.each_context(request) | {
            "title": str(execution),
            "opts": self.opts,
            "original": execution,
            "documents": pages.as_text(execution.documents),
            "inputs": inputs_and_outputs(execution, Access.of(request))[0],
            "differences": since(execution) if context["may_see_task"] else None,
        }
        return TemplateResponse(request, "executions/detail.html", context | (extra_context or {}))

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        execution = self._get(request, object_id)
        if not may(request, CANCEL):
            raise PermissionDenied
        page = reverse("admin:executions_execution_change", args=[execution.pk])
        if request.method != "POST":
            return confirm_page(self, request, f"Stop {execution} at all parties?", "Stop it", page, "cp-button-danger")
        try:
            execution.cancel(by=request.user)
        except NotCancellable as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"{execution} is being stopped.")
        return HttpResponseRedirect(page)

    def again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        execution = self._get(request, object_id)
        if not may_run(request, execution):
            raise PermissionDenied
        page = reverse("admin:executions_execution_change", args=[execution.pk])
        if request.method != "POST":
            return confirm_page(self, request, f"Run the documents of {execution} once more?", "Run again", page)
        try:
            new = execution.submit_again(by=request.user, within=Access.of(request).parties)
        except DocumentsInvalid as error:
            for problem in error.problems:
                messages.error(request, str(problem))
            return HttpResponseRedirect(page)
        return HttpResponseRedirect(reverse("admin:executions_execution_change", args=[new.pk]))

    def rerun_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the form of **Change and run**, and submit the new execution."""
        execution = self._get(request, object_id)
        if not may_run(request, execution):
            raise PermissionDenied
        form = RerunForm(execution, request.POST if request.method == "POST" else None, Access.of(request).parties)
        if request.method == "POST" and (new := form.submit(by=request.user)):
            return HttpResponseRedirect(reverse("admin:executions_execution_change", args=[new.pk]))
        documents = [form[layer] for layer in layers()]
        context = self.admin_site.each_context(request) | {
            "title": f"Run {execution} with changes",
            "opts": self.opts,
            "form": form,
            "options": [field for field in form if field.name not in layers()],
            "documents": documents,
            "back": reverse("admin:executions_execution_change", args=[execution.pk]),
        }
        return TemplateResponse(request, "executions/rerun.html", context)
