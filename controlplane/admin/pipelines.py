"""The admin of pipelines and schedules, as they are registered."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.formats import date_format
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.decorators import display

from controlplane.access import Access
from controlplane.admin.base import ConfigAdmin
from controlplane.admin.shown import first_names, moment
from controlplane.forms.pipelines import PipelineForm, ScheduleForm, composed, drawing_of
from controlplane.language import is_english
from controlplane.models import Pipeline, Schedule

NEXT_TIMES = 5


class PipelineAdmin(ConfigAdmin):
    form = PipelineForm
    list_display: Any = ("name", "node_names", "description", "shown_changed")
    none_yet = _("No pipeline yet. Add one to run several tasks in an order.")
    csv_columns = (
        ("name", "name"), ("description", "description"), ("tasks", lambda row: " ".join(sorted(row.task_names()))),
        ("version", "version"), ("changed", "updated_at"),
    )  # fmt: skip
    fieldsets: Any = ((None, {"fields": ("name", "description")}), (_("Nodes"), {"fields": ("nodes",)}))
    change_form_outer_before_template = "controlplane/pipeline_graph.html"

    @display(description=_("Nodes"))
    def node_names(self, pipeline: Pipeline) -> str:
        return first_names(sorted(pipeline.nodes))

    def get_urls(self) -> list[Any]:
        draw = self.admin_site.admin_view(require_POST(self.draw_view))
        return [path("draw/", draw, name="controlplane_pipeline_draw"), *super().get_urls()]

    def draw_view(self, request: HttpRequest) -> HttpResponse:
        """Answer what the form's canvas shows for the rows that it posts. Nothing is kept."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        try:
            rows = json.loads(request.POST.get("nodes", ""))
        except (ValueError, RecursionError):
            rows = []
        return JsonResponse(composed(rows, Access.of(request).parties))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        form = context["adminform"].form
        drawn = form.drawing() if isinstance(form, PipelineForm) else drawing_of(obj.nodes, Access.of(request).parties)
        context["drawing"] = drawn if drawn.boxes else None
        context["composes"] = isinstance(form, PipelineForm) and "nodes" in form.fields
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)


class ScheduleAdmin(ConfigAdmin):
    form = ScheduleForm
    list_display: Any = ("name", "shown_target", "cron", "shown_next", "enabled", "description")
    list_filter = ("enabled",)
    none_yet = _("No schedule yet. Add one to run a task or a pipeline at set times.")
    csv_columns = (
        ("name", "name"), ("runs", lambda row: str(row.target)), ("cron expression", "cron"),
        ("time zone", "time_zone"),
        ("enabled", "enabled"), ("owner", "owner"), ("next time", "next_run_at"), ("description", "description"),
    )  # fmt: skip
    autocomplete_fields = ("task", "pipeline")
    list_select_related: Any = ("task", "pipeline")
    readonly_fields: Any = ("shown_times", "owner")
    fieldsets: Any = (
        (None, {"fields": ("name", "description", "enabled")}),
        (_("When"), {"fields": ("cron", "time_zone", "shown_times")}),
        (_("What"), {"fields": ("task", "pipeline", "owner")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        return super().get_queryset(request).order_by("name")

    @display(description=_("Runs"))
    def shown_target(self, schedule: Schedule) -> str:
        kind = gettext("task") if schedule.task_id else gettext("pipeline")
        return f"{kind} {schedule.target}"

    @display(description=_("Next time"), ordering="next_run_at")
    def shown_next(self, schedule: Schedule) -> Any:
        return moment(schedule.next_run_at)

    @display(description=_("Next times"))
    def shown_times(self, schedule: Schedule) -> str:
        if not schedule.pk:
            return gettext("shown once it is saved")
        if not schedule.enabled:
            return gettext("none: it is switched off")
        times = ", ".join(date_format(moment, "D Y-m-d H:i") for moment in schedule.next_times(NEXT_TIMES))
        # The words are English: cronsim has no others
        return f"{schedule.in_words}: {times}" if is_english() else times

    def save_model(self, request: Any, obj: Any, form: Any, change: bool) -> None:
        obj.owner = request.user
        super().save_model(request, obj, form, change)
