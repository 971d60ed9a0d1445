"""The base of the admin of what was run: users who may view executions can look at it, nobody can edit it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from controlplane.admin.permissions import may
from executions.permissions import VIEW


class ReadOnlyAdmin(ModelAdmin):
    """An admin without adding, changing and deleting."""

    list_filter_sheet = False
    list_per_page = 50
    list_select_related: Any = False
    # COUNT(*) of all executions is slow and no page needs it
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
