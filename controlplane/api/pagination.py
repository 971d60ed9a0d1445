from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request


class Pagination(CursorPagination):
    """Newest first, in pages by cursor: the thousandth page costs what the first one does."""

    page_size_query_param = "page_size"
    max_page_size = 500
    ordering: Any = "-pk"

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValidationError, ValueError, OverflowError):
            # a cursor is only base64: anyone can put a position into it that is no date or number
            raise NotFound("Invalid cursor") from None


class NewestFirst(Pagination):
    ordering = ("-created_at", "-pk")


class ArrivalOrder(Pagination):
    """Oldest first, for logs that are read on from where one stopped."""

    ordering = "pk"
