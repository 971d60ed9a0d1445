"""Views of what came of executions: a table as CSV, several side by side, and everything about one in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from controlplane.access import Access
from controlplane.admin.shown import moment, span
from controlplane.documents.differences import ABSENT, shown
from controlplane.language import in_english
from controlplane.spreadsheets import as_csv
from executions.diagnosis.bundle import diagnose, name_of
from executions.models import Execution
from executions.results.comparison import side_by_side
from executions.results.reading import read, table_of
from executions.states import COLOURS, Status
from workers.contract.secrets import masked

#: Executions side by side, and among how many of the task's latest the others are looked for.
MOST_COMPARED, LOOKED_AT = 6, 30
#: Parameters that differ, and characters of one value, that are shown.
MOST_PARAMETERS = 100


@admin.action(description=_("Compare"), permissions=("view",))
def compare_executions(model_admin: Any, request: HttpRequest, rows: QuerySet[Execution]) -> HttpResponse | None:
    """Show the chosen executions side by side."""
    keys = list(rows.values_list("pk", flat=True)[: MOST_COMPARED + 1])
    if len(keys) > MOST_COMPARED:
        messages.error(
            request,
            gettext("At most {number} executions stand side by side; choose fewer.").format(number=MOST_COMPARED),
        )
        return None
    query = urlencode([("id", str(key)) for key in keys])
    return HttpResponseRedirect(f"{reverse('admin:executions_execution_compare')}?{query}")


class ResultViews:
    """Adds the views of results to the admin of executions."""

    admin_site: Any
    opts: Any

    def result_urls(self) -> list[Any]:
        views = (self.table_view, self.compare_view, self.diagnosis_view)
        table, compare, diagnosis = (self.admin_site.admin_view(view) for view in views)
        return [
            path("compare/", compare, name="executions_execution_compare"),
            path("<uuid:pk>/result/<int:number>/", table, name="executions_execution_table"),
            path("<uuid:pk>/diagnosis/", diagnosis, name="executions_execution_diagnosis"),
        ]

    @in_english()
    def table_view(self, request: HttpRequest, pk: UUID, number: int) -> HttpResponse:
        """Return a table of the result as CSV, whole and with all digits."""
        found = self._visible(request, [pk])
        block = table_of(found[0].task_type, found[0].result, number) if found else None
        if block is None:
            raise Http404("There is no such table.")
        response = HttpResponse(as_csv(block.columns, block.rows), content_type="text/csv; charset=utf-8")
        name = "".join(c if c.isalnum() else "_" for c in f"{found[0].short}_{block.title}")[:100]
        response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
        return response

    def compare_view(self, request: HttpRequest) -> HttpResponse:
        """Show the executions that are named as ``id``, the first on the left; with one alone, also the latest
        successful ones of its task."""
        executions = self._visible(request, _ids(request.GET.getlist("id")))
        if not executions:
            raise Http404("Name executions to compare, as ?id=...&id=...")
        if len(executions) == 1:
            executions += self._others(request, executions[0])
        kinds = {execution.task_type for execution in executions}
        context = self.admin_site.each_context(request) | {
            "title": gettext("Compare executions"),
            "opts": self.opts,
            "columns": [_column(execution) for execution in executions],
            "problem": ""
            if len(kinds) == 1
            else gettext("They are of different task types: {kinds}.").format(kinds=", ".join(sorted(kinds))),
            "parameters": _parameters(executions),
            "found": {"blocks": side_by_side([(e.short, read(e.task_type, e.result)) for e in executions])},
        }
        return TemplateResponse(request, "executions/compare.html", context)

    @in_english()
    def diagnosis_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Return everything about an execution as a zip file."""
        if not (found := self._visible(request, [pk])):
            raise Http404("There is no such execution.")
        disposition = {
            "Content-Disposition": f'attachment; filename="{name_of(found[0])}"',
            "Cache-Control": "no-store",
        }
        return HttpResponse(diagnose(found[0]), content_type="application/zip", headers=disposition)

    def _visible(self, request: HttpRequest, ids: Sequence[UUID]) -> list[Execution]:
        """Return those executions of the ids that the user may see, in the order of the ids."""
        if not self.has_view_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        rows = Access.of(request).visible(Execution.objects.select_related("task", "submitted_by"))
        found = {execution.pk: execution for execution in rows.filter(pk__in=ids[:MOST_COMPARED])}
        return [found[pk] for pk in ids if pk in found]

    def _others(self, request: HttpRequest, execution: Execution) -> list[Execution]:
        if execution.task_id is None:
            return []
        rows = Execution.objects.filter(task=execution.task_id).order_by("-created_at", "-id")
        latest = rows.values_list("pk", "status")[:LOOKED_AT]
        ids = [pk for pk, status in latest if status == Status.SUCCESS and pk != execution.pk]
        return self._visible(request, ids[: MOST_COMPARED - 3])


def _ids(texts: Sequence[str]) -> list[UUID]:
    found = []
    for text in dict.fromkeys(texts):
        try:
            found.append(UUID(text))
        except ValueError:
            raise Http404(f"{text[:40]!r} is no id of an execution.") from None
    return found


def _column(execution: Execution) -> dict[str, Any]:
    return {
        "short": execution.short,
        "name": execution.name or execution.task_type,
        "url": reverse("admin:executions_execution_change", args=[execution.pk]),
        "status": execution.get_status_display(),
        "colour": COLOURS.get(execution.status, "default"),
        "submitted": moment(execution.created_at),
        "by": execution.submitted_by or "-",
        "waited": span(execution.waited),
        "ran": span(execution.ran),
        "attempts": execution.attempt,
    }


def _parameters(executions: Sequence[Execution]) -> list[tuple[str, list[str]]]:
    """Return the parameters that are not the same in all executions, secrets masked: the path, and each value."""
    leaves = [dict(_leaves(masked(execution.documents))) for execution in executions]
    paths = dict.fromkeys(where for found in leaves for where in found)
    rows = []
    for where in paths:
        values = [found.get(where, ABSENT) for found in leaves]
        if any(value != values[0] for value in values[1:]):
            rows.append((where, [shown(value) for value in values]))
    return rows[:MOST_PARAMETERS]


def _leaves(value: Any, where: str = "") -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{where}.{key}" if where else str(key))
    else:
        yield where, value
