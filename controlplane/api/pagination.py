from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request


class Pagination(CursorPagination):
    """Pages by cursor, newest first: the thousandth page costs as much as the first one."""

    page_size_query_param = "page_size"
    max_page_size = 500
    ordering: Any = "-pk"

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValidationError, ValueError, OverflowError):
            # a cursor is only base64: a caller can put anything into it
            raise NotFound("Invalid cursor") from None


class NewestFirst(Pagination):
    ordering = ("-created_at", "-pk")


class ArrivalOrder(Pagination):
    """Pages by cursor, oldest first: for logs, so that a reader can go on where it stopped."""

    ordering = "pk"
