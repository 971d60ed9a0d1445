"""What the admin of everything that is registered has in common: its history, who uses it, and what a change breaks."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from simple_history.admin import SimpleHistoryAdmin
from simple_history.template_utils import HistoricalRecordContextHelper
from unfold.admin import ModelAdmin
from unfold.decorators import display

from controlplane.access import Access
from controlplane.admin.guarded import Guarded
from controlplane.admin.listing import Listed
from controlplane.admin.permissions import may
from controlplane.admin.scoped import Scoped
from controlplane.admin.shown import moment
from controlplane.documents.differences import differences
from controlplane.forms.document import REBUILD
from controlplane.models import Pipeline, Task
from controlplane.models.protection import MOST_NAMED
from controlplane.models.usage import MOST_CHECKED, effect_on, named_by, tasks_using
from workers.contract.secrets import MASK, change_secrets

SHOWN_IN_USE = 20
SHOWN_INVALID = 10


admin.site.index_title = _("Overview")


class ChangesByKey(HistoricalRecordContextHelper):
    """Lists the changes of a version for the history page; in a document, each key that differs."""

    def context_for_delta_changes(self, delta: Any) -> list[dict[str, str]]:
        found = []
        for change in delta.changes:
            field = self.model._meta.get_field(change.field)
            if not field.editable:  # what a party reported
                continue
            label = str(field.verbose_name)
            old, new = (str(v) if isinstance(v, Model) else v for v in (change.old, change.new))
            if change.field == "document":
                layer = "task_config" if self.model is Task else getattr(delta.new_record, "layer", self.model.layer)
                old, new = _masked(layer, old), _masked(layer, new, before=old)
            found += [{"where": f"{label} {c.path}".strip(), "words": c.words} for c in differences(old, new)]
        return found


def _masked(layer: str, document: Any, before: Any = None) -> Any:
    """Return a version of a document without its secrets, which shows that one is not as it was ``before``."""
    known: dict[tuple[str, ...], Any] = {}
    change_secrets(layer, before or {}, lambda path, value: known.setdefault(path, value))

    def mask(path: tuple[str, ...], value: Any) -> str:
        return MASK if before is None or known.get(path) == value else gettext("{mask} (another one)").format(mask=MASK)

    return change_secrets(layer, document, mask)


class ConfigAdmin(Guarded, Listed, Scoped, SimpleHistoryAdmin, ModelAdmin):
    """Base of the admin of everything that is registered."""

    compressed_fields = False
    warn_unsaved_form = True
    list_filter_sheet = False
    # They would count all rows once for each choice
    show_facets = admin.ShowFacets.NEVER
    search_fields: tuple[str, ...] = ("name", "description")
    change_form_outer_before_template = "controlplane/used_by.html"
    object_history_list_template = "controlplane/history_list.html"
    #: Whether its page names the tasks that use it.
    shows_users = True

    @property
    def media(self) -> forms.Media:
        return super().media + forms.Media(js=["controlplane/document-form.js"])

    def get_historical_record_context_helper(self, request: HttpRequest, historical_record: Any) -> ChangesByKey:
        return ChangesByKey(self.model, historical_record)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        if not object_id.isdecimal():  # simple_history would ask the database for it
            raise Http404("There is none of this id.")
        return super().history_view(request, object_id, extra_context)

    def history_form_view(
        self, request: HttpRequest, object_id: str, version_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not (object_id.isdecimal() and version_id.isdecimal()):
            raise Http404("There is no such version.")
        self.check_is_visible(request, object_id)
        # simple_history only hides the button from those who may just look, and would make again what was deleted
        if request.method == "POST":
            obj = self.get_object(request, object_id)
            if obj is None or not self.has_change_permission(request, obj):
                raise PermissionDenied
        request.of_the_past = True  # type: ignore[attr-defined]  # what it shows is an old version on purpose
        # ours: for unfold's links, the model of the history has no pages
        return super().history_form_view(request, object_id, version_id, {"opts": self.opts} | (extra_context or {}))

    @display(description=pgettext_lazy("time", "Changed"), ordering="updated_at")
    def shown_changed(self, row: Any) -> Any:
        return moment(row.updated_at)

    # --- who uses it

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if REBUILD in request.POST:
            context["errors"] = None
        if obj is not None and obj.pk and not context.get("is_popup"):
            using = tasks_using(obj) if self.shows_users else Task.objects.none()
            tasks = Access.of(request).visible(using).order_by("name")
            shown = list(tasks.only("name")[: SHOWN_IN_USE + 1])
            number = tasks.count() if len(shown) > SHOWN_IN_USE else len(shown)
            context["usage"] = {
                "version": obj.version,
                "number": number,
                "tasks": shown[:SHOWN_IN_USE] if _may_see_tasks(request) else [],
                "more": max(number - SHOWN_IN_USE, 0),
                "pipelines": _pipelines_of(obj) if may(request, "controlplane.view_pipeline") else [],
            }
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        objs = list(objs)
        to_delete, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        named = [capfirst(f"{user._meta.verbose_name} {user}") for obj in objs for user in named_by(obj)]
        protected = [*protected, *dict.fromkeys(named)]
        if len(protected) > MOST_NAMED:  # a party that ran for a year has a million runs
            protected = [*protected[:MOST_NAMED], gettext("and more")]
        return to_delete, counts, perms_needed, protected

    # --- what a change breaks

    def save_model(self, request: Any, obj: Any, form: Any, change: bool) -> None:
        stored = self.model._default_manager.filter(pk=obj.pk).first()
        # before it is saved: a dataset may be about to get another name than the one that tasks use
        users = list(tasks_using(stored or obj).values_list("pk", flat=True)) if change else []
        super().save_model(request, obj, form, change)
        if stored is None or obj.version != stored.version:
            request.affected_tasks = users
            request.affected_pipelines = _pipelines_of(obj) if change else []

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        response = super().response_change(request, obj)
        self.tell_effect(request)
        return response

    def tell_effect(self, request: HttpRequest) -> None:
        """Tell the user which tasks use the row that was saved, and what is wrong with them now."""
        for pipeline in getattr(request, "affected_pipelines", ()):
            try:
                pipeline.clean()
            except ValidationError as error:
                messages.warning(
                    request,
                    format_html(gettext("Pipeline {} is not valid now: {}"), link_to(pipeline), error.messages[0]),
                )
        affected = getattr(request, "affected_tasks", None)
        if not affected:
            return
        effect = effect_on(Task.objects.filter(pk__in=affected))
        beyond = (
            gettext("; {number} more than the {checked} that were checked").format(
                number=effect.unchecked, checked=MOST_CHECKED
            )
            if effect.unchecked
            else ""
        )
        if not effect.invalid:
            messages.info(
                request,
                ngettext(
                    "{number} task uses it, and stays valid{beyond}.",
                    "{number} tasks use it, and stay valid{beyond}.",
                    effect.users,
                ).format(number=effect.users, beyond=beyond),
            )
            return
        messages.warning(
            request,
            ngettext(
                "{number} task uses it; not valid now: {invalid}{beyond}.",
                "{number} tasks use it; not valid now: {invalid}{beyond}.",
                effect.users,
            ).format(number=effect.users, invalid=len(effect.invalid), beyond=beyond),
        )
        if not _may_see_tasks(request):
            return
        for task, problems in effect.invalid[:SHOWN_INVALID]:
            first = problems[0]
            more = gettext(" (and {number} more)").format(number=len(problems) - 1) if len(problems) > 1 else ""
            messages.warning(request, format_html("{}: {}{}", link_to(task), first, more))
        if len(effect.invalid) > SHOWN_INVALID:
            rest = ((link_to(task),) for task, _ in effect.invalid[SHOWN_INVALID:])
            messages.warning(request, format_html(gettext("not valid either: {}"), format_html_join(", ", "{}", rest)))


def link_to(row: Task | Pipeline) -> SafeString:
    page = reverse(f"admin:controlplane_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}" class="underline">{}</a>', page, row)


def _pipelines_of(row: Model) -> list[Pipeline]:
    return Pipeline.naming(row.name) if isinstance(row, Task) else []


def _may_see_tasks(request: HttpRequest) -> bool:
    return may(request, "controlplane.view_task")
