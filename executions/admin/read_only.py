"""The admin of what was run: to look at, for those who may look at executions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from controlplane.admin.permissions import may
from executions.permissions import VIEW


class ReadOnlyAdmin(ModelAdmin):
    """What ran is what ran."""

    list_filter_sheet = False
    list_per_page = 50
    list_select_related: Any = False
    # No COUNT(*) of all that ever ran, for no page
    show_full_result_count = False
    paginator = InfinitePaginator
    show_facets = admin.ShowFacets.NEVER
    actions = None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, VIEW)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
