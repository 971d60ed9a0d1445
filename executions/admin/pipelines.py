"""The admin of pipelines with a button that runs them, of pipeline runs, and of schedules with their recent runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, Prefetch, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.decorators import action, display

from controlplane.access import Access
from controlplane.admin.confirm import confirm_page
from controlplane.admin.filters import PartyFilter
from controlplane.admin.permissions import may
from controlplane.admin.pipelines import PipelineAdmin, ScheduleAdmin
from controlplane.admin.scoped import ScopedSelectFilter
from controlplane.admin.shown import NOTHING, exact, length, line, link, moment, submission
from controlplane.models import Pipeline, Schedule
from executions.admin import pipeline_run_page as pipeline_pages
from executions.admin.at_once import cancel_runs, disable_schedules, enable_schedules, retry_runs
from executions.admin.read_only import ReadOnlyAdmin, SubmitterFilter
from executions.admin.runnable import Runnable, may_run
from executions.mandate import objection
from executions.models import PipelineRun, Tick
from executions.models.pipeline_run import NotPossible
from executions.permissions import CANCEL, RUN, VIEW
from executions.states import COLOURS, PipelineStatus, Status
from workers.contract.problems import DocumentsInvalid

SHOWN_TICKS = 10
_RESULTS = {status.label: COLOURS[status] for status in (*Status, *PipelineStatus)} | {"skipped": "warning"}


@admin.register(Pipeline)
class RunnablePipelineAdmin(Runnable, PipelineAdmin):
    """The pipelines' admin, with a button that runs one."""

    list_display = ("name", "node_names", "shown_latest", "shown_latest_time", "description", "shown_changed")
    actions_detail = ("run_now",)

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        newest = PipelineRun.objects.filter(pipeline=OuterRef("pk")).order_by("-created_at").values("pk")[:1]
        keys = (
            Pipeline.objects.filter(pk__in=[row.pk for row in rows]).order_by().values_list(Subquery(newest), flat=True)
        )
        runs = PipelineRun.objects.filter(pk__in=[key for key in keys if key])
        latest = {run.pipeline_id: run for run in Access.of(request).visible(runs)}
        for row in rows:
            row.latest = latest.get(row.pk)

    @display(description="Last result", label={s.label: COLOURS[s] for s in PipelineStatus})
    def shown_latest(self, pipeline: Any) -> str:
        return str(pipeline.latest.get_status_display()) if pipeline.latest else ""

    @display(description="Last run")
    def shown_latest_time(self, pipeline: Any) -> Any:
        run = pipeline.latest
        if run is None:
            return NOTHING
        return link(reverse("admin:executions_pipelinerun_change", args=[run.pk]), moment(run.created_at))

    # unfold's actions are links: this one leads to a form, and only posting that form starts anything
    @action(description="Run now", icon="play_arrow", permissions=("run",), url_path="run")
    def run_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        pipeline = self.get_object(request, unquote(object_id))
        if pipeline is None or not self.has_view_or_change_permission(request, pipeline):
            raise Http404("There is no such pipeline.")
        page = reverse("admin:controlplane_pipeline_change", args=[pipeline.pk])
        pipeline.within = Access.of(request).parties
        try:
            if request.method == "POST":
                return self._submit(request, pipeline, page)
            steps = pipeline.steps()
        except DocumentsInvalid as error:
            for problem in error.problems:
                messages.error(request, str(problem))
            return HttpResponseRedirect(page)
        facts = [(step.name, self._fact(step)) for step in steps]
        return confirm_page(self, request, f"Run {pipeline} now?", "Run now", page, facts=facts)

    @staticmethod
    def _fact(step: Any) -> str:
        return f"{step.task}, after {', '.join(step.waits_for)}" if step.waits_for else str(step.task)

    def _submit(self, request: HttpRequest, pipeline: Pipeline, page: str) -> HttpResponse:
        run = PipelineRun.objects.submit(pipeline, by=request.user)
        if not may(request, VIEW):
            messages.success(request, f"{run} was submitted.")
            return HttpResponseRedirect(page)
        return HttpResponseRedirect(reverse("admin:executions_pipelinerun_change", args=[run.pk]))


@admin.register(PipelineRun)
class PipelineRunAdmin(ReadOnlyAdmin):
    list_display = (
        "title", "shown_status", "shown_nodes", "shown_parties", "submitted", "shown_ran",
        "shown_error",
    )  # fmt: skip
    list_filter = (
        "status", PartyFilter, SubmitterFilter, ("pipeline", ScopedSelectFilter), *ReadOnlyAdmin.list_filter
    )  # fmt: skip
    list_select_related = ("submitted_by", "party_set")
    sortable_by = ("submitted",)
    ordering = ("-created_at",)
    actions = (cancel_runs, retry_runs)
    none_yet = "No pipeline has been run yet. Open a pipeline and press Run now."
    csv_columns = (
        ("id", "pk"), ("name", "name"), ("status", "status"), ("nodes done", pipeline_pages.progress),
        ("parties", lambda run: " ".join(run.involved() or ())), ("submitted by", "submitted_by"),
        ("submitted", "created_at"), ("ended", "ended_at"), ("ran, seconds", "seconds"),
        ("first error", pipeline_pages.first_error),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[PipelineRun]:
        rows = super().get_queryset(request).defer("submitted_by__password")
        return rows.prefetch_related(Prefetch("nodes", pipeline_pages.progress_rows()))

    def get_list_filter(self, request: HttpRequest) -> Any:
        # Its suggestions are those of the pipelines' list
        hidden = "" if may(request, "controlplane.view_pipeline") else "pipeline"
        return [entry for entry in self.list_filter if not (isinstance(entry, tuple) and entry[0] == hidden)]

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return may(request, CANCEL)

    def has_run_permission(self, request: HttpRequest) -> bool:
        return may(request, RUN)

    def is_live(self, rows: list[Any]) -> bool:
        return not all(run.has_ended for run in rows)

    @display(description="Run", header=True)
    def title(self, run: PipelineRun) -> list[str]:
        return [run.name, str(run.pk)[:8]]

    @display(description="Status", label={s.label: COLOURS[s] for s in PipelineStatus})
    def shown_status(self, run: PipelineRun) -> str:
        return str(run.get_status_display())

    @display(description="Nodes done")
    def shown_nodes(self, run: PipelineRun) -> str:
        return pipeline_pages.progress(run)

    @display(description="Parties")
    def shown_parties(self, run: PipelineRun) -> str:
        return str(run.party_set or NOTHING)

    @display(description="Submitted", ordering="created_at")
    def submitted(self, run: PipelineRun) -> Any:
        return submission(run.created_at, run.submitted_by)

    @display(description="Ran")
    def shown_ran(self, run: PipelineRun) -> Any:
        return length((run.ended_at or timezone.now()) - run.created_at, run.has_ended)

    @display(description="First error")
    def shown_error(self, run: PipelineRun) -> Any:
        return line(pipeline_pages.first_error(run))

    def get_urls(self) -> list[Any]:
        cancel, retry = self.admin_site.admin_view(self.cancel_view), self.admin_site.admin_view(self.retry_view)
        return [
            path("<path:object_id>/cancel/", cancel, name="executions_pipelinerun_cancel"),
            path("<path:object_id>/retry/", retry, name="executions_pipelinerun_retry"),
            *super().get_urls(),
        ]

    def _get(self, request: HttpRequest, object_id: str) -> PipelineRun:
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            rows = PipelineRun.objects.select_related("pipeline", "submitted_by", "party_set")
            return Access.of(request).visible(rows).get(pk=UUID(unquote(object_id)))
        except (ValueError, PipelineRun.DoesNotExist):
            raise Http404("There is no such pipeline run.") from None

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Return the page of a run; with ``?fragment=1`` the part of it that changes."""
        run = self._get(request, object_id)
        may_retry = may_run(request, run)
        context = pipeline_pages.live(run) | {
            "may_cancel": may(request, CANCEL) and not run.has_ended,
            "may_retry": may_retry and run.has_ended and run.status != PipelineStatus.SUCCESS,
            "may_retry_nodes": may_retry and run.status != PipelineStatus.CANCELLING,
            "may_see_pipeline": may(request, "controlplane.view_pipeline"),
            "cancel_url": reverse("admin:executions_pipelinerun_cancel", args=[run.pk]),
            "retry_url": reverse("admin:executions_pipelinerun_retry", args=[run.pk]),
        }
        if "fragment" in request.GET:
            headers = {"X-Fragment": "1", "Cache-Control": "no-store"}
            return TemplateResponse(request, "executions/pipeline_live.html", context, headers=headers)
        context |= self.admin_site.each_context(request) | {"title": str(run), "opts": self.opts, "original": run}
        return TemplateResponse(request, "executions/pipeline_detail.html", context | (extra_context or {}))

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        run = self._get(request, object_id)
        if not may(request, CANCEL):
            raise PermissionDenied
        page = reverse("admin:executions_pipelinerun_change", args=[run.pk])
        if request.method != "POST":
            return confirm_page(self, request, f"Stop {run} and its executions?", "Stop it", page, "cp-button-danger")
        try:
            run.cancel(by=request.user)
        except NotPossible as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"{run} is being stopped.")
        return HttpResponseRedirect(page)

    def retry_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Retry the posted node, or all nodes that failed."""
        run = self._get(request, object_id)
        if not may_run(request, run):
            raise PermissionDenied
        page = reverse("admin:executions_pipelinerun_change", args=[run.pk])
        if request.method != "POST":
            return confirm_page(self, request, f"Run again what failed in {run}, and go on?", "Retry", page)
        try:
            names = run.retry(request.POST.getlist("node"), by=request.user)
        except NotPossible as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"{', '.join(names) or run} runs again; what succeeded is not repeated.")
        return HttpResponseRedirect(page)


@admin.register(Schedule)
class RunningScheduleAdmin(Runnable, ScheduleAdmin):
    """The schedules' admin, with their recent runs. Whoever adds, changes or confirms one runs things, and so needs the
    right to."""

    actions_detail = ("confirm",)

    list_display = ("name", "shown_target", "cron", "owner", "shown_next", "shown_latest", "shown_last_time", "enabled")
    list_select_related = ("task", "pipeline", "owner")
    actions = (enable_schedules, disable_schedules)
    readonly_fields = (*ScheduleAdmin.readonly_fields, "shown_ticks")
    fieldsets = (*ScheduleAdmin.fieldsets, ("Recent runs", {"fields": ("shown_ticks",)}))

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        newest = Tick.objects.filter(schedule=OuterRef("pk")).order_by("-due_at").values("pk")[:1]
        keys = (
            Schedule.objects.filter(pk__in=[row.pk for row in rows]).order_by().values_list(Subquery(newest), flat=True)
        )
        ticks = Tick.objects.filter(pk__in=[key for key in keys if key]).select_related("execution", "pipeline_run")
        ticks = ticks.defer("execution__documents", "execution__result")
        latest = {tick.schedule_id: tick for tick in ticks}
        for row in rows:
            row.latest = latest.get(row.pk)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and may(request, RUN)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and may(request, RUN)

    @action(description="Run in my name", icon="how_to_reg", permissions=("run",), url_path="confirm")
    def confirm(self, request: HttpRequest, object_id: str) -> HttpResponse:
        schedule = self.get_object(request, unquote(object_id))
        if schedule is None or not self.has_change_permission(request, schedule):
            raise Http404("There is no such schedule.")
        page = reverse("admin:controlplane_schedule_change", args=[schedule.pk])
        if request.method == "POST":
            schedule.confirm(by=request.user)
            messages.success(request, f"{schedule} runs in your name from now on.")
            return HttpResponseRedirect(page)
        facts = [("Runs", str(schedule.target)), ("In the name of", str(schedule.owner or "nobody"))]
        if reason := objection(schedule):
            facts.append(("Does not run now", reason))
        question = f"Run {schedule.target} in your name, as it is now, whenever {schedule} is due?"
        return confirm_page(self, request, question, "Run in my name", page, facts=facts)

    @display(description="Last result", label=_RESULTS)
    def shown_latest(self, schedule: Any) -> str:
        tick = schedule.latest
        if tick is None:
            return ""
        if tick.skipped:
            return "skipped"
        return str(tick.started.get_status_display()) if tick.started else "no longer kept"

    @display(description="Last time")
    def shown_last_time(self, schedule: Any) -> Any:
        tick = schedule.latest
        if tick is None or not tick.started:
            return moment(tick and tick.due_at)
        url = reverse(f"admin:executions_{tick.started._meta.model_name}_change", args=[tick.started.pk])
        return link(url, moment(tick.due_at))

    @display(description="Recent runs")
    def shown_ticks(self, schedule: Schedule) -> str:
        ticks = schedule.ticks.select_related("execution", "pipeline_run").defer(
            "execution__documents", "execution__result"
        )
        rows = [(exact(tick.due_at, "minutes"), _outcome(tick)) for tick in ticks[:SHOWN_TICKS]]
        return format_html_join("", "<div>{}: {}</div>", rows) if rows else "none yet"


def _outcome(tick: Tick) -> str:
    if tick.skipped:
        return f"skipped: {tick.skipped}"
    if not tick.started:
        return "was started, and is no longer kept"
    url = reverse(f"admin:executions_{tick.started._meta.model_name}_change", args=[tick.started.pk])
    return format_html(
        '<a href="{}" class="underline">{}</a>, {}', url, tick.started, tick.started.get_status_display()
    )
