"""The admin of pipelines with a button that runs them, of pipeline runs, and of schedules with their recent runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display

from controlplane.access import Access
from controlplane.admin.confirm import confirm_page
from controlplane.admin.filters import PartyFilter
from controlplane.admin.permissions import may
from controlplane.admin.pipelines import PipelineAdmin, ScheduleAdmin
from controlplane.admin.scoped import ScopedSelectFilter
from controlplane.admin.shown import NOTHING, exact, length, line, moment
from controlplane.language import translated
from controlplane.models import Pipeline, Schedule
from executions.admin import pipeline_run_page as pipeline_pages
from executions.admin.at_once import cancel_runs, disable_schedules, enable_schedules, retry_runs
from executions.admin.runnable import LastRun, Runnable, link_to, may_run, newest_of
from executions.admin.submissions import SubmissionAdmin, SubmitterFilter
from executions.mandate import objection
from executions.models import PipelineRun, Tick
from executions.models.pipeline_run import NotPossible
from executions.permissions import CANCEL, RUN, VIEW
from executions.states import BADGES, PipelineStatus
from workers.contract.problems import DocumentsInvalid

SHOWN_TICKS = 10


@admin.register(Pipeline)
class RunnablePipelineAdmin(LastRun, Runnable, PipelineAdmin):
    """The pipelines' admin, with a button that runs one."""

    list_display = ("name", "node_names", "shown_latest", "shown_latest_time", "description", "shown_changed")
    actions_detail = ("run_now",)

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        runs = newest_of(Pipeline, rows, PipelineRun, by="-created_at")
        latest = {run.pipeline_id: run for run in Access.of(request).visible(runs)}
        for row in rows:
            row.latest = latest.get(row.pk)

    # unfold's actions are links: this one leads to a form, and only posting that form starts anything
    @action(description=_("Run now"), icon="play_arrow", permissions=("run",), url_path="run")
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
        return confirm_page(
            self,
            request,
            gettext("Run {pipeline} now?").format(pipeline=pipeline),
            gettext("Run now"),
            page,
            facts=facts,
        )

    @staticmethod
    def _fact(step: Any) -> str:
        return (
            gettext("{task}, after {nodes}").format(task=step.task, nodes=", ".join(step.waits_for))
            if step.waits_for
            else str(step.task)
        )

    def _submit(self, request: HttpRequest, pipeline: Pipeline, page: str) -> HttpResponse:
        run = PipelineRun.objects.submit(pipeline, by=request.user)
        if not may(request, VIEW):
            messages.success(request, gettext("{run} was submitted.").format(run=run))
            return HttpResponseRedirect(page)
        return HttpResponseRedirect(reverse("admin:executions_pipelinerun_change", args=[run.pk]))


@admin.register(PipelineRun)
class PipelineRunAdmin(SubmissionAdmin):
    submitted_from = "pipeline"
    list_display = (
        "title", "shown_status", "shown_nodes", "shown_parties", "submitted", "shown_ran",
        "shown_error",
    )  # fmt: skip
    list_filter = (
        "status", PartyFilter, SubmitterFilter, ("pipeline", ScopedSelectFilter), *SubmissionAdmin.list_filter
    )  # fmt: skip
    list_select_related = ("submitted_by", "party_set")
    actions = (cancel_runs, retry_runs)
    none_yet = _("No pipeline has been run yet. Open a pipeline and press Run now.")
    csv_columns = (
        ("id", "pk"), ("name", "name"), ("status", "status"), ("nodes done", pipeline_pages.progress),
        ("parties", lambda run: " ".join(run.involved() or ())), ("submitted by", "submitted_by"),
        ("submitted", "created_at"), ("ended", "ended_at"), ("ran, seconds", "seconds"),
        ("first error", pipeline_pages.first_error),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[PipelineRun]:
        return super().get_queryset(request).prefetch_related(Prefetch("nodes", pipeline_pages.progress_rows()))

    @display(description=_("Run"), header=True)
    def title(self, run: PipelineRun) -> list[str]:
        return [run.name, run.short]

    @display(description=_("Nodes done"))
    def shown_nodes(self, run: PipelineRun) -> str:
        return pipeline_pages.progress(run)

    @display(description=_("Parties"))
    def shown_parties(self, run: PipelineRun) -> str:
        return str(run.party_set or NOTHING)

    @display(description=_("Ran"))
    def shown_ran(self, run: PipelineRun) -> Any:
        return length((run.ended_at or timezone.now()) - run.created_at, run.has_ended)

    @display(description=_("First error"))
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
            return confirm_page(
                self,
                request,
                gettext("Stop {run} and its executions?").format(run=run),
                gettext("Stop it"),
                page,
                "cp-button-danger",
            )
        try:
            run.cancel(by=request.user)
        except NotPossible as error:
            messages.error(request, translated(str(error)))
        else:
            messages.success(request, gettext("{run} is being stopped.").format(run=run))
        return HttpResponseRedirect(page)

    def retry_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Retry the posted node, or all nodes that failed."""
        run = self._get(request, object_id)
        if not may_run(request, run):
            raise PermissionDenied
        page = reverse("admin:executions_pipelinerun_change", args=[run.pk])
        if request.method != "POST":
            return confirm_page(
                self,
                request,
                gettext("Run again what failed in {run}, and go on?").format(run=run),
                gettext("Retry"),
                page,
            )
        try:
            names = run.retry(request.POST.getlist("node"), by=request.user)
        except NotPossible as error:
            messages.error(request, translated(str(error)))
        else:
            messages.success(
                request,
                gettext("{run} runs again; what succeeded is not repeated.").format(run=", ".join(names) or run),
            )
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
    fieldsets = (*ScheduleAdmin.fieldsets, (_("Recent runs"), {"fields": ("shown_ticks",)}))

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        ticks = newest_of(Schedule, rows, Tick, by="-due_at").select_related("execution", "pipeline_run")
        ticks = ticks.defer("execution__documents", "execution__result")
        latest = {tick.schedule_id: tick for tick in ticks}
        for row in rows:
            row.latest = latest.get(row.pk)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and may(request, RUN)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and may(request, RUN)

    @action(description=_("Run in my name"), icon="how_to_reg", permissions=("run",), url_path="confirm")
    def confirm(self, request: HttpRequest, object_id: str) -> HttpResponse:
        schedule = self.get_object(request, unquote(object_id))
        if schedule is None or not self.has_change_permission(request, schedule):
            raise Http404("There is no such schedule.")
        page = reverse("admin:controlplane_schedule_change", args=[schedule.pk])
        if request.method == "POST":
            schedule.confirm(by=request.user)
            messages.success(request, gettext("{schedule} runs in your name from now on.").format(schedule=schedule))
            return HttpResponseRedirect(page)
        owner = str(schedule.owner or gettext("nobody"))
        facts = [(gettext("Runs"), str(schedule.target)), (gettext("In the name of"), owner)]
        if reason := objection(schedule):
            facts.append((gettext("Does not run now"), translated(reason)))
        question = gettext("Run {target} in your name, as it is now, whenever {schedule} is due?").format(
            target=schedule.target, schedule=schedule
        )
        return confirm_page(self, request, question, gettext("Run in my name"), page, facts=facts)

    @display(description=_("Last result"), label=BADGES | {"skipped": "warning"})
    def shown_latest(self, schedule: Any) -> tuple[str, str] | str:
        tick = schedule.latest
        if tick is None:
            return ""
        if tick.skipped:
            return "skipped", gettext("skipped")
        return (tick.started.status, tick.started.get_status_display()) if tick.started else gettext("no longer kept")

    @display(description=_("Last time"))
    def shown_last_time(self, schedule: Any) -> Any:
        tick = schedule.latest
        if tick is None or not tick.started:
            return moment(tick and tick.due_at)
        return link_to(tick.started, tick.due_at)

    @display(description=_("Recent runs"))
    def shown_ticks(self, schedule: Schedule) -> str:
        ticks = schedule.ticks.select_related("execution", "pipeline_run").defer(
            "execution__documents", "execution__result"
        )
        rows = [(exact(tick.due_at, "minutes"), _outcome(tick)) for tick in ticks[:SHOWN_TICKS]]
        return format_html_join("", "<div>{}: {}</div>", rows) if rows else gettext("none yet")


def _outcome(tick: Tick) -> str:
    if tick.skipped:
        return gettext("skipped: {skipped}").format(skipped=translated(tick.skipped))
    if not tick.started:
        return gettext("was started, and is no longer kept")
    url = reverse(f"admin:executions_{tick.started._meta.model_name}_change", args=[tick.started.pk])
    return format_html(
        '<a href="{}" class="underline">{}</a>, {}', url, tick.started, tick.started.get_status_display()
    )
