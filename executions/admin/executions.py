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
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from controlplane.access import Access
from controlplane.admin.confirm import confirm_page
from controlplane.admin.filters import PartyFilter, TaskTypeFilter
from controlplane.admin.permissions import may
from controlplane.admin.scoped import ScopedSelectFilter
from controlplane.admin.shown import length, line
from controlplane.language import translated
from executions.admin import execution_page as pages
from executions.admin.at_once import cancel_executions, run_executions_again
from executions.admin.labels import LabelFilter, LabelledList
from executions.admin.log_panel import LogViews, panel
from executions.admin.rerun import RerunForm
from executions.admin.result_views import ResultViews, compare_executions
from executions.admin.runnable import may_run
from executions.admin.submissions import SubmissionAdmin, SubmitterFilter
from executions.models import Execution, NotCancellable
from executions.permissions import CANCEL
from executions.results.lineage import inputs_and_outputs, since
from executions.states import Status
from workers.contract.layers import layers
from workers.contract.problems import DocumentsInvalid


@admin.register(Execution)
class ExecutionAdmin(ResultViews, LogViews, SubmissionAdmin):
    submitted_from = "task"
    list_display = (
        "title", "shown_status", "shown_type", "shown_parties", "submitted", "shown_waited", "shown_ran", "shown_error",
    )  # fmt: skip
    list_filter = (
        "status", TaskTypeFilter, PartyFilter, SubmitterFilter, LabelFilter, ("task", ScopedSelectFilter),
        *SubmissionAdmin.list_filter,
    )  # fmt: skip
    list_select_related = ("submitted_by",)
    actions = (compare_executions, cancel_executions, run_executions_again)
    none_yet = _("No execution yet. Open a task and press Run now.")
    csv_columns = (
        ("id", "pk"), ("name", "name"), ("status", "status"), ("task type", "task_type"),
        ("parties", lambda execution: " ".join(execution.parties)), ("submitted by", "submitted_by"),
        ("submitted", "created_at"), ("started", "started_at"), ("ended", "ended_at"),
        ("waited, seconds", "waited"), ("ran, seconds", "ran"), ("attempt", "attempt"),
        ("error type", "error_type"), ("error party", "error_party"), ("error stage", "error_stage"),
        ("error", "error"),
    )  # fmt: skip

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return LabelledList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Execution]:
        return super().get_queryset(request).defer("documents", "result")

    @display(description=_("Execution"), header=True)
    def title(self, execution: Execution) -> list[str]:
        return [execution.name or execution.task_type, execution.short]

    @display(description=_("Task type"))
    def shown_type(self, execution: Execution) -> Any:
        return format_html('<span title="{}">{}</span>', pages.title_of(execution.task_type), execution.task_type)

    @display(description=_("Parties"))
    def shown_parties(self, execution: Execution) -> str:
        return ", ".join(execution.parties)

    @display(description=_("Waited"))
    def shown_waited(self, execution: Execution) -> Any:
        return length(execution.waited, is_over=execution.has_ended or execution.ran is not None)

    @display(description=_("Ran"))
    def shown_ran(self, execution: Execution) -> Any:
        is_over = execution.has_ended or execution.ran is None
        done = gettext("{percent} % done").format(percent=pages.percent(execution.progress))
        return length(execution.ran, is_over, "" if is_over else done)

    @display(description=_("First error"))
    def shown_error(self, execution: Execution) -> Any:
        return line(translated(execution.error))

    def get_urls(self) -> list[Any]:
        views = (self.cancel_view, self.again_view, self.rerun_view)
        cancel, again, rerun = (self.admin_site.admin_view(view) for view in views)
        return [
            *self.result_urls(),
            *self.log_urls(),
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
        is_fragment, has_outputs = "fragment" in request.GET, execution.status == Status.SUCCESS
        # Large documents are read for it: once for both, and not each second
        is_asked = has_outputs or not is_fragment
        inputs, outputs = inputs_and_outputs(execution, Access.of(request)) if is_asked else ([], [])
        context = pages.live(execution) | {
            "outputs": outputs if has_outputs else [],
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
        if is_fragment:
            headers = {"X-Fragment": "1", "Cache-Control": "no-store"}
            return TemplateResponse(request, "executions/live.html", context, headers=headers)
        context |= panel(execution, {name: request.GET.get(name, "") for name in ("log_party", "log_level")})
        context |= self.admin_site.each_context(request) | {
            "title": str(execution),
            "opts": self.opts,
            "original": execution,
            "documents": pages.as_text(execution.documents),
            "inputs": inputs,
            "differences": since(execution) if context["may_see_task"] else None,
        }
        return TemplateResponse(request, "executions/detail.html", context | (extra_context or {}))

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        execution = self._get(request, object_id)
        if not may(request, CANCEL):
            raise PermissionDenied
        page = reverse("admin:executions_execution_change", args=[execution.pk])
        if request.method != "POST":
            return confirm_page(
                self,
                request,
                gettext("Stop {execution} at all parties?").format(execution=execution),
                gettext("Stop it"),
                page,
                "cp-button-danger",
            )
        try:
            execution.cancel(by=request.user)
        except NotCancellable as error:
            messages.error(request, translated(str(error)))
        else:
            messages.success(request, gettext("{execution} is being stopped.").format(execution=execution))
        return HttpResponseRedirect(page)

    def again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        execution = self._get(request, object_id)
        if not may_run(request, execution):
            raise PermissionDenied
        page = reverse("admin:executions_execution_change", args=[execution.pk])
        if request.method != "POST":
            return confirm_page(
                self,
                request,
                gettext("Run the documents of {execution} once more?").format(execution=execution),
                gettext("Run again"),
                page,
            )
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
        context = self.admin_site.each_context(request) | {
            "title": gettext("Run {execution} with changes").format(execution=execution),
            "opts": self.opts,
            "form": form,
            "options": [field for field in form if field.name not in layers()],
            "task": form["task_config"],
            "others": [form[layer] for layer in layers() if layer != "task_config"],
            "back": reverse("admin:executions_execution_change", args=[execution.pk]),
        }
        return TemplateResponse(request, "executions/rerun.html", context)
