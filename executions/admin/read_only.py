"""The base of the admin of what was run: users who may view executions can look at it, nobody can edit it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import JSONField, QuerySet
from django.http import Http404, HttpRequest
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import RangeDateTimeFilter
from unfold.paginator import InfinitePaginator
from unfold.utils import parse_datetime_str

from controlplane.admin.listing import Listed
from controlplane.admin.permissions import may
from controlplane.admin.scoped import Scoped
from executions.models.submission import ids_beginning
from executions.permissions import VIEW

#: How many rows the pages of a list lead to. The database goes through all rows before a page: what is older is found
#: by the filter by creation.
MOST_LISTED = 10_000
#: Among how many of the newest rows a part of a name is searched, and how many rows of a whole name are found.
SEARCHED, MOST_FOUND = 1000, 1000


class CreationFilter(RangeDateTimeFilter):
    """Filters by a range of times of creation."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        for edge, lookup in (("from", "gte"), ("to", "lte")):
            day, time = (self.used_parameters.get(f"{self.parameter_name}_{edge}_{part}") or "" for part in (0, 1))
            # unfold's own would compare with a time without a zone
            if moment := parse_datetime_str(f"{day} {time or '00:00:00'}"):
                queryset = queryset.filter(**{f"{self.parameter_name}__{lookup}": timezone.make_aware(moment)})
        return queryset


class ReadOnlyAdmin(Listed, Scoped):
    """An admin without adding, changing and deleting. There may be millions of rows; each has a name and a time of
    creation."""

    list_filter: Any = (("created_at", CreationFilter),)
    list_filter_submit = True  # the filter by creation has fields
    list_filter_sheet = False
    list_per_page = 50
    list_select_related: Any = False
    # COUNT(*) of all executions is slow and no page needs it
    show_full_result_count = False
    paginator = InfinitePaginator
    show_facets = admin.ShowFacets.NEVER
    actions: Any = None
    search_fields: Any = ("name",)
    # Its total is of all pages, and more rows than a page are not for one action
    list_disable_select_all = True
    actions_selection_counter = True
    search_help_text = format_lazy(
        _("Id or its first 8 characters, or name (a part of it: among the newest {number})"), number=f"{SEARCHED:,}"
    )

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        # Of JSON no database compares everything that an address may ask for
        field = self.opts.get_field(lookup.split("__")[0]) if hasattr(self.model, lookup.split("__")[0]) else None
        return not isinstance(field, JSONField) and super().lookup_allowed(lookup, value, request)

    def check_is_visible(self, request: HttpRequest, object_id: str) -> None:
        # Of these nothing is left once they are deleted
        if self.get_object(request, unquote(object_id)) is None:
            raise Http404(f"There is no {self.opts.verbose_name} of this id, or none that you may see.")

    def get_paginator(self, *args: Any, **kwargs: Any) -> Any:
        paginator = super().get_paginator(*args, **kwargs)
        paginator.count, paginator.template_name = MOST_LISTED, "executions/pagination.html"
        return paginator

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find by the id or its beginning, the whole name, or a part of the name of one of the newest: no index serves
        parts."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(pk=UUID(term)), False
        except ValueError:
            pass
        rows = queryset.order_by("-created_at", "-pk").prefetch_related(None).values_list("pk", flat=True)
        # Queries for their keys, and the parts compared here: all in one, the database would go through all rows
        newest = rows.values_list("pk", "name")[:SEARCHED]
        found = {pk for pk, name in newest if term.casefold() in name.casefold()}
        found.update(rows.filter(name=term)[:MOST_FOUND])
        if ids := ids_beginning(term):
            # Of the table alone and in the order of ids: the database would guess that a range holds many
            found.update(
                self.model._default_manager.order_by("pk")
                .filter(pk__range=ids)
                .values_list("pk", flat=True)[:MOST_FOUND]
            )
        return queryset.filter(pk__in=found), False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, VIEW)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
