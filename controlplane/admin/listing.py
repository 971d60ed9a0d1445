"""What all lists of the admin have: a total, saved filters, a download, and rows that are kept fresh."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.cache import patch_vary_headers
from django.utils.text import capfirst
from django.utils.translation import gettext
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from controlplane.access import Access
from controlplane.admin.csv_download import Columns, download
from controlplane.admin.filters import PartyFilter
from controlplane.admin.saved_filters import saved_of
from controlplane.admin.shown import counted
from controlplane.language import in_english

#: Rows of large tables are counted up to this number; where no single index serves what is chosen, up to fewer: the
#: database then goes through several rows for each that it finds.
MOST_COUNTED, MOST_COUNTED_SLOWLY = 10_000, 1000
#: Header with which lists.js asks for the rows alone.
ROWS_ALONE = "X-Rows-Alone"


class Listed(ModelAdmin):
    """Part of a ModelAdmin: the head of its list, its download, and what stands where it is empty."""

    list_before_template = "controlplane/list_head.html"
    #: Said where there are no rows at all: how the first one is made.
    none_yet: Any = ""
    #: What a download has of each row; without any there is no download.
    csv_columns: Columns = ()

    def is_live(self, rows: list[Any]) -> bool:
        """Return whether something in these rows is about to change by itself."""
        return False

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        """Add to the rows of a page what its columns show of other tables: in as many queries, however many rows."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None)
        if not context or "cl" not in context:
            return response
        cl = context["cl"]
        if not cl.is_popup:
            cl.title = context["title"] = capfirst(str(self.opts.verbose_name_plural))
        cl.result_list = rows = list(cl.result_list)
        self.prepare_rows(request, rows)
        context |= {"total": self._total(request, cl), "is_live": self.is_live(rows)}
        context["is_filtered"] = cl.is_filtered = bool(cl.query or cl.has_active_filters)
        cl.none_yet = self._none_yet(request)
        cl.problem = next(filter(None, (getattr(spec, "problem", "") for spec in cl.filter_specs)), "")
        if ROWS_ALONE in request.headers:
            response.template_name = "controlplane/list_rows.html"
            response.headers[ROWS_ALONE] = "yes"
        else:
            context["saved_filters"] = list(saved_of(request, self.opts.label_lower))
            context["list_label"], context["list_query"] = self.opts.label_lower, cl.get_query_string()[1:]
            if self.csv_columns:
                context["csv_url"] = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_csv")
        patch_vary_headers(response, [ROWS_ALONE])
        return response

    def _total(self, request: HttpRequest, cl: Any) -> str:
        """Return how many rows there are; of a large table, no more than tell it."""
        number, limit = cl.result_count, 0
        if isinstance(cl.paginator, InfinitePaginator):
            shown, before = len(cl.result_list), (cl.page_num - 1) * cl.list_per_page
            if shown < cl.list_per_page and (shown or not before):
                number = before + shown
            else:
                used = [spec for spec in cl.filter_specs if any(spec.used_parameters.values())]
                is_by_party = Access.of(request).parties is not None or any(isinstance(s, PartyFilter) for s in used)
                limit = MOST_COUNTED_SLOWLY if is_by_party or len(used) > 1 else MOST_COUNTED
                # In the list's order, and so by the index that serves the page
                number = cl.queryset[: limit + 1].count()
        return counted(number, self.model, limit)

    def _none_yet(self, request: HttpRequest) -> str:
        if Access.of(request).parties == frozenset():
            return gettext(
                "You have no party yet, and so there is nothing for you to see. Ask an administrator for one."
            )
        return self.none_yet or gettext("No {what} yet.").format(what=self.opts.verbose_name_plural)

    def get_urls(self) -> list[Any]:
        if not self.csv_columns:
            return super().get_urls()
        name = f"{self.opts.app_label}_{self.opts.model_name}_csv"
        return [path("csv/", self.admin_site.admin_view(self.csv_view), name=name), *super().get_urls()]

    def csv_view(self, request: HttpRequest) -> HttpResponse:
        """Return the list as filtered and ordered, with all its pages, as CSV."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        try:
            cl = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            page = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
            return HttpResponseRedirect(f"{page}?{ERROR_FLAG}=1")
        with in_english():
            name = str(self.opts.verbose_name_plural)
        return download(request, name, self.csv_columns, cl.queryset)  # type: ignore[return-value]
