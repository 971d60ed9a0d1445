"""The admin of executions (to look at and to cancel), and the button that runs a task."""

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
from redis.exceptions import RedisError
from unfold.decorators import action, display

from controlplane.admin.confirm import confirm_page
from controlplane.admin.tasks import TaskAdmin
from controlplane.models import Task
from executions import pages, pipeline_admin  # noqa: F401  Django finds this module alone
from executions import preflight as preflights
from executions.connection import redis_connection
from executions.models import Execution, NotCancellable, Preflight
from executions.outlook import Outlook, look_ahead
from executions.read_only import ReadOnlyAdmin
from executions.rerun import RerunForm
from executions.states import Status
from workers.contract.connection import trouble
from workers.contract.errors import ConfigError
from workers.contract.layers import layers
from workers.contract.problems import DocumentsInvalid
from workers.contract.registry import TASK_EXECUTOR_REGISTRY


class TaskTypeFilter(admin.SimpleListFilter):
    """From the registry: the distinct values of a large table would have to be looked for."""

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
class ExecutionAdmin(ReadOnlyAdmin):
    list_display = ("title", "shown_status", "task_type", "shown_parties", "stage", "shown_progress", "created", "took")
    list_filter = ("status", TaskTypeFilter)
    search_fields = ("name",)
    search_help_text = "Name, or the whole id"
    sortable_by = ("created",)
    ordering = ("-created_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Execution]:
        return super().get_queryset(request).defer("documents", "result")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        try:
            return queryset.filter(pk=UUID(search_term.strip())), False
        except ValueError:
            return super().get_search_results(request, queryset, search_term)

    @display(description="Execution", header=True)
    def title(self, execution: Execution) -> list[str]:
        return [execution.name or execution.task_type, str(execution.pk)[:8]]

    @display(description="Status", label={s.label: c for s, c in pages.COLOURS.items() if isinstance(s, Status)})
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
            path("<path:object_id>/cancel/", cancel, name="executions_execution_cancel"),
            path("<path:object_id>/again/", again, name="executions_execution_again"),
            path("<path:object_id>/rerun/", rerun, name="executions_execution_rerun"),
            *super().get_urls(),
        ]

    def _get(self, request: HttpRequest, object_id: str) -> Execution:
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            # the documents are large, do not change, and are not part of what is fetched every second
            rows = Execution.objects.select_related("task", "submitted_by", "node__run").defer(
                "documents", "node__documents", "node__options"
            )
            return rows.get(pk=UUID(unquote(object_id)))
        except (ValueError, Execution.DoesNotExist):
            raise Http404("There is no such execution.") from None

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of an execution; with ``?fragment=1`` the part of it that changes."""
        execution = self._get(request, object_id)
        user: Any = request.user
        context = pages.live(execution) | {
            "may_cancel": self.may_cancel(request) and not execution.has_ended,
            "may_run_again": user.has_perm("executions.add_execution") and execution.has_ended,
            "again_url": reverse("admin:executions_execution_again", args=[execution.pk]),
            "rerun_url": reverse("admin:executions_execution_rerun", args=[execution.pk]),
            "may_see_task": user.has_perm("controlplane.view_task"),
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
        }
        return TemplateResponse(request, "executions/detail.html", context | (extra_context or {}))

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        execution = self._get(request, object_id)
        if not self.may_cancel(request):
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
        user: Any = request.user
        if not user.has_perm("executions.add_execution"):
            raise PermissionDenied
        page = reverse("admin:executions_execution_change", args=[execution.pk])
        if request.method != "POST":
            return confirm_page(self, request, f"Run the documents of {execution} once more?", "Run again", page)
        try:
            new = execution.submit_again(by=request.user)
        except DocumentsInvalid as error:
            for problem in error.problems:
                messages.error(request, str(problem))
            return HttpResponseRedirect(page)
        return HttpResponseRedirect(reverse("admin:executions_execution_change", args=[new.pk]))

    def rerun_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Run it once more with changes."""
        execution = self._get(request, object_id)
        user: Any = request.user
        if not user.has_perm("executions.add_execution"):
            raise PermissionDenied
        form = RerunForm(execution, request.POST if request.method == "POST" else None)
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


admin.site.unregister(Task)


@admin.register(Task)
class RunnableTaskAdmin(TaskAdmin):
    """The task admin, with a way to run a task. Here and not there: configuration knows nothing of executions."""

    actions_detail = ("run_now", "preview")
    actions_submit_line = ("save_and_run",)

    def has_run_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        user: Any = request.user
        return bool(user.has_perm("executions.add_execution"))

    # unfold's actions are links: this one leads to a form, and only posting that form starts anything
    @action(description="Run now", icon="play_arrow", permissions=("run",), url_path="run")
    def run_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        task = self.get_object(request, unquote(object_id))
        if task is None or not self.has_view_or_change_permission(request, task):
            raise Http404("There is no such task.")
        page = reverse("admin:controlplane_task_change", args=[task.pk])
        if request.method == "POST":
            return self.submit(request, task) or HttpResponseRedirect(page)
        facts = [
            ("Task type", self.task_type(task)),
            ("Parties", ", ".join(task.cluster.document.get("parties", []))),
            ("Datasets", self.datasets(task)),
            ("SPU", task.spu),
            ("HEU", task.heu),
            ("Priority", str(task.priority)),
        ]
        return confirm_page(self, request, f"Run {task} now?", "Run now", page, facts=facts)

    @action(description="Preview", icon="visibility", permissions=("run",), url_path="preview")
    def preview(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What would happen if it were run now, what each party would be sent, and what their hosts say to it."""
        task = self.get_object(request, unquote(object_id))
        if task is None or not self.has_view_or_change_permission(request, task):
            raise Http404("There is no such task.")
        if request.method == "POST":
            return self._check_at_the_parties(request, task)
        preflight = self._checks_asked_for(request, task)
        if preflight and "fragment" in request.GET:
            headers = {"X-Fragment": "1", "Cache-Control": "no-store"}
            return TemplateResponse(request, "executions/checks_live.html", pages.checked(preflight), headers=headers)
        try:
            outlook = look_ahead(task.documents())
        except DocumentsInvalid as error:
            outlook = Outlook(problems=error.problems)
        context = self.admin_site.each_context(request) | {
            "title": f"Preview of {task}",
            "opts": self.opts,
            "task": task,
            "outlook": outlook,
            "sent": [(party, pages.as_text(documents)) for party, documents in outlook.documents.items()],
            "back": reverse("admin:controlplane_task_change", args=[task.pk]),
        }
        return TemplateResponse(request, "executions/outlook.html", context | pages.checked(preflight))

    def _check_at_the_parties(self, request: HttpRequest, task: Task) -> HttpResponse:
        try:
            documents = task.documents()
            task.validate()
            preflight = preflights.request(redis_connection(), documents, name=task.name, by=request.user)
        except (ConfigError, preflights.CannotCheck) as error:
            messages.error(request, str(error))
        except (RedisError, OSError) as error:
            messages.error(request, trouble(error))
        else:
            return HttpResponseRedirect(f"{request.path}?checks={preflight.pk}")
        return HttpResponseRedirect(request.path)

    def _checks_asked_for(self, request: HttpRequest, task: Task) -> Preflight | None:
        try:
            return Preflight.objects.filter(pk=UUID(request.GET.get("checks", "")), name=task.name).first()
        except ValueError:
            return None

    @action(description="Save and run", icon="play_arrow", permissions=("run",))
    def save_and_run(self, request: HttpRequest, task: Task) -> None:
        request.run_after_saving = True  # type: ignore[attr-defined]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        # unfold shows such buttons for what is saved already; this one is for new tasks too
        buttons = {"actions_submit_line": self.get_actions_submit_line(request, object_id=0)}
        return super().add_view(request, form_url, (extra_context or {}) | buttons)

    def response_change(self, request: HttpRequest, obj: Task) -> HttpResponse:
        return self._run_if_asked(request, obj) or super().response_change(request, obj)

    def response_add(self, request: HttpRequest, obj: Task, *args: Any) -> HttpResponse:
        return self._run_if_asked(request, obj) or super().response_add(request, obj, *args)

    def _run_if_asked(self, request: HttpRequest, task: Task) -> HttpResponse | None:
        return self.submit(request, task) if getattr(request, "run_after_saving", False) else None

    def submit(self, request: HttpRequest, task: Task) -> HttpResponse | None:
        """To the new execution's page; None, with the problems as messages, where the task is not valid now."""
        try:
            execution = Execution.objects.submit(task.documents(), task=task, by=request.user, options=task.options())
        except DocumentsInvalid as error:
            for problem in error.problems:
                messages.error(request, str(problem))
            return None
        user: Any = request.user
        if not user.has_perm("executions.view_execution"):
            messages.success(request, f"{execution} was submitted.")
            return None
        return HttpResponseRedirect(reverse("admin:executions_execution_change", args=[execution.pk]))
