"""The admin of tasks with the buttons that run one. It is here because ``controlplane`` does not import
``executions``."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display

from controlplane.access import Access
from controlplane.admin.confirm import confirm_page
from controlplane.admin.permissions import may
from controlplane.admin.tasks import TaskAdmin
from controlplane.models import Task
from executions.admin import execution_page as pages
from executions.admin.runnable import LastRun, Runnable, newest_of
from executions.dry_run import DryRun, dry_run
from executions.models import Condition, Execution, Preflight
from executions.permissions import VIEW
from executions.results.lineage import inputs_of, not_as_registered
from workers.contract.problems import DocumentsInvalid

admin.site.unregister(Task)


class ValidityFilter(admin.SimpleListFilter):
    """Offers the tasks that are not valid any more, as far as the coordinator has looked at them."""

    title = _("validity")
    parameter_name = "validity"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", gettext("not valid any more"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(pk__in=Condition.invalid_tasks()) if self.value() == "no" else queryset


@admin.register(Task)
class RunnableTaskAdmin(LastRun, Runnable, TaskAdmin):
    """The tasks' admin, with buttons that run a task."""

    actions_detail = ("run_now", "dry_run")
    list_filter = (*TaskAdmin.list_filter, ValidityFilter)
    change_form_outer_before_template = "executions/task_state.html"
    actions_submit_line = ("save_and_run",)
    list_display = (
        "name", "task_type", "cluster", "datasets", "shown_drift", "shown_latest", "shown_latest_time", "description",
        "shown_changed",
    )  # fmt: skip

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        found = newest_of(Task, rows, Execution, by="-created_at").only("task", "status", "created_at")
        # It may have run at other parties than the task has now
        latest = {execution.task_id: execution for execution in Access.of(request).visible(found)}
        may_see = may(request, VIEW)
        inputs = {row.pk: inputs_of(row.document) for row in rows}
        drifted = not_as_registered({key for keys in inputs.values() for key in keys}, Access.of(request))
        for row in rows:
            row.latest = latest.get(row.pk) if may_see else None
            row.drifts = any(key in drifted for key in inputs[row.pk])

    @display(description=_("Data"), label={"differs": "warning"})
    def shown_drift(self, task: Any) -> str:
        return "differs" if task.drifts else ""

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None and obj.pk:
            drifted = not_as_registered(inputs_of(obj.document), Access.of(request))
            context["drifted"] = [(dataset, "; ".join(dataset.drift)) for dataset in drifted.values()]
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    # unfold's actions are links: this one leads to a form, and only posting that form starts anything
    @action(description=_("Run now"), icon="play_arrow", permissions=("run",), url_path="run")
    def run_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        task = self.get_object(request, unquote(object_id))
        if task is None or not self.has_view_or_change_permission(request, task):
            raise Http404("There is no such task.")
        page = reverse("admin:controlplane_task_change", args=[task.pk])
        if request.method == "POST":
            return self.submit(request, task) or HttpResponseRedirect(page)
        facts = [
            (gettext("Task type"), self.task_type(task)),
            (gettext("Parties"), ", ".join(task.cluster.document.get("parties", []))),
            (gettext("Datasets"), self.datasets(task)),
            ("SPU", task.spu),
            ("HEU", task.heu),
            (gettext("Priority"), str(task.priority)),
        ]
        return confirm_page(
            self, request, gettext("Run {task} now?").format(task=task), gettext("Run now"), page, facts=facts
        )

    @action(description=_("Dry run"), icon="visibility", permissions=("run",), url_path="dry-run")
    def dry_run(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what would happen if the task were run now, what each party would receive, and, on request, what the
        parties' hosts find when they check it."""
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
            found = dry_run(task.documents(), Access.of(request).parties)
        except DocumentsInvalid as error:
            found = DryRun(problems=error.problems)
        context = self.admin_site.each_context(request) | {
            "title": gettext("Dry run of {task}").format(task=task),
            "opts": self.opts,
            "task": task,
            "dry_run": found,
            "sent": [(party, pages.as_text(documents)) for party, documents in found.documents.items()],
            "back": reverse("admin:controlplane_task_change", args=[task.pk]),
        }
        return TemplateResponse(request, "executions/dry_run.html", context | pages.checked(preflight))

    def _check_at_the_parties(self, request: HttpRequest, task: Task) -> HttpResponse:
        try:
            documents = task.documents()
            task.within = Access.of(request).parties
            task.validate()
            preflight = Preflight.objects.ask(documents, name=task.name, by=request.user)
        except DocumentsInvalid as error:
            for problem in error.problems:
                messages.error(request, str(problem))
        else:
            return HttpResponseRedirect(f"{request.path}?checks={preflight.pk}")
        return HttpResponseRedirect(request.path)

    def _checks_asked_for(self, request: HttpRequest, task: Task) -> Preflight | None:
        try:
            asked = UUID(request.GET.get("checks", ""))
            return Access.of(request).visible(Preflight.objects.all()).filter(pk=asked, name=task.name).first()
        except ValueError:
            return None

    @action(description=_("Save and run"), icon="play_arrow", permissions=("run",))
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
        """Submit the task and return a redirect to the execution's page. Returns None, and shows the problems as
        messages, if the task is not valid now."""
        try:
            execution = Execution.objects.submit(
                task.documents(),
                task=task,
                by=request.user,
                options=task.options(),
                within=Access.of(request).parties,
            )
        except DocumentsInvalid as error:
            for problem in error.problems:
                messages.error(request, str(problem))
            return None
        if not may(request, VIEW):
            messages.success(request, gettext("{execution} was submitted.").format(execution=execution))
            return None
        return HttpResponseRedirect(reverse("admin:executions_execution_change", args=[execution.pk]))
