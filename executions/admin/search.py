"""The search of the whole admin: executions by short id or name, and everything that is registered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.text import capfirst
from unfold.dataclasses import SearchResult

from controlplane.models import Dataset, Party, Pipeline, Schedule, Task
from executions.models import Execution, PipelineRun

#: Kinds that are searched, in the order of the results, with their pictures.
_KINDS: tuple[tuple[Any, str], ...] = (
    (Execution, "play_circle"),
    (PipelineRun, "account_tree"),
    (Task, "task"),
    (Pipeline, "schema"),
    (Schedule, "schedule"),
    (Dataset, "table_chart"),
    (Party, "groups"),
)
#: Results of each kind, and characters that a search needs and has.
MOST_OF_A_KIND, FEWEST, MOST = 6, 2, 100


def search(request: HttpRequest) -> HttpResponse:
    """Return what is found, as unfold's palette shows it. Nothing is cached: what somebody may see can change."""
    term = request.GET.get("s", "").replace("\0", "").strip()[:MOST]
    found = [*_pages(request, term), *_rows(request, term)] if len(term) >= FEWEST else []
    paginator = Paginator(found, max(len(found), 1))
    context = {"term": term, "page_obj": paginator, "results": found}
    return TemplateResponse(request, "controlplane/search_results.html", context, headers={"Cache-Control": "no-store"})


def _pages(request: HttpRequest, term: str) -> Iterator[SearchResult]:
    """Yield the pages of the sidebar whose title has the term."""
    site: Any = admin.site  # unfold's
    for group in site.get_sidebar_list(request):
        for item in group["items"]:
            if item["has_permission"] and term.casefold() in str(item["title"]).casefold():
                yield SearchResult(str(item["title"]), "page", str(item["link"]), item.get("icon"))


def _rows(request: HttpRequest, term: str) -> Iterator[SearchResult]:
    """Yield what each kind's own list finds: with the same permissions, parties and speed."""
    for model, icon in _KINDS:
        model_admin: Any = admin.site._registry[model]
        if not model_admin.has_view_or_change_permission(request):
            continue
        rows, _ = model_admin.get_search_results(request, model_admin.get_queryset(request), term)
        if model is Dataset:
            rows = rows.select_related("party")  # its name has the party's
        at = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
        for row in rows.prefetch_related(None)[:MOST_OF_A_KIND]:
            yield SearchResult(str(row), _described(row), reverse(at, args=[row.pk]), icon)


def _described(row: Any) -> str:
    name = capfirst(str(row._meta.verbose_name))
    if isinstance(row, Execution | PipelineRun):
        return f"{name}, {row.get_status_display()}, {timezone.localtime(row.created_at):%Y-%m-%d %H:%M %Z}"
    description = getattr(row, "description", "")
    return f"{name}, {description[:80]}" if description else name


urlpatterns = [path("", admin.site.admin_view(search), name="search_everything")]
