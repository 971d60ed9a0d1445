"""Pages of lists, by cursor: the thousandth page costs as much as the first one."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from django.core.exceptions import ValidationError
from rest_framework import exceptions
from rest_framework.exceptions import ErrorDetail, NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings

from controlplane.api.query import whole_number
from controlplane.api.shared import query
from workers.contract.problems import closest

#: The time of submission as a filter by labels has it, in whose index rows are in this order.
LABELLED = "labelled_at"
TOTAL = "total"
#: Orders of what was submitted.
BY_SUBMISSION = MappingProxyType({"created_at": ("created_at", "pk"), "-created_at": ("-created_at", "-pk")})


class Pagination(CursorPagination):
    """Pages of a list, newest first if nothing else is asked for. ``Link`` leads to the next and the previous page."""

    page_size_query_param = "page_size"
    max_page_size = 500
    #: What a request for a page may say of it.
    parameters: tuple[str, ...] = ("cursor", "page_size")
    ordering: Any = "-pk"

    def get_page_size(self, request: Request) -> int | None:
        given = request.query_params.get(self.page_size_query_param)
        if given is None:
            return self.page_size
        number = whole_number(given, 6)
        if number is None or not 1 <= number <= self.max_page_size:
            text = f"should be a number from 1 to {self.max_page_size}"
            raise exceptions.ValidationError({self.page_size_query_param: [ErrorDetail(text, "invalid")]})
        return number

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        orderings = getattr(view, "orderings", {}) if getattr(view, "action", "") == "list" else {}
        param = api_settings.ORDERING_PARAM
        given = request.query_params.get(param)
        if given is None or not orderings:
            return super().get_ordering(request, queryset, view)
        if given not in orderings:
            text = f"cannot order by this; {closest(given, list(orderings))}"
            raise exceptions.ValidationError({param: [ErrorDetail(text, "invalid")]})
        found: tuple[str, ...] = orderings[given]
        return found

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValidationError, ValueError, OverflowError):
            # a cursor is only base64: a caller can put anything into it
            raise NotFound("Invalid cursor") from None

    def get_paginated_response(self, data: Any) -> Response:
        links = {"next": self.get_next_link(), "prev": self.get_previous_link()}
        told = ", ".join(f'<{url}>; rel="{rel}"' for rel, url in links.items() if url)
        response = super().get_paginated_response(data)
        if told:
            response["Link"] = told
        return response

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        cursor = {"type": "string"}
        size = {"type": "integer", "minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        texts = {self.cursor_query_param: "The page, as `next` names it.", "page_size": "Rows of a page."}
        return [
            {"name": name, "in": "query", "schema": cursor if name == "cursor" else size, "description": text}
            for name, text in texts.items()
        ]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri"}
        properties = {
            "next": link | {"description": "Address of the next page, if there is one."},
            "previous": link | {"description": "Address of the page before, if there is one."},
            "results": schema,
        }
        return {"type": "object", "required": list(properties), "properties": properties}


class Counted(Pagination):
    """Pages that tell, with ``total=true``, how many rows there are in all: of what is registered, tens of thousands at
    most. Of what was run there may be millions, and each count would go through all of them."""

    parameters = (*Pagination.parameters, TOTAL)
    _total: int | None = None

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        given = request.query_params.get(TOTAL, "false").lower()
        if given not in ("true", "false"):
            raise exceptions.ValidationError({TOTAL: [ErrorDetail("should be true or false", "invalid")]})
        self._total = queryset.count() if given == "true" else None
        return super().paginate_queryset(queryset, request, view)

    def get_paginated_response(self, data: Any) -> Response:
        response = super().get_paginated_response(data)
        if self._total is not None:
            response.data[TOTAL] = self._total
        return response

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        asked = query(TOTAL, {"type": "boolean", "default": False}, "Tell how many there are in all, as `total`.")
        return [*super().get_schema_operation_parameters(view), asked]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        described = super().get_paginated_response_schema(schema)
        described["properties"][TOTAL] = {
            "type": "integer",
            "minimum": 0,
            "description": "How many there are in all, if that was asked for.",
        }
        return described


class NewestFirst(Pagination):
    ordering = ("-created_at", "-pk")

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        names = super().get_ordering(request, queryset, view)
        if LABELLED not in queryset.query.annotations:
            return names
        return tuple(name.replace("created_at", LABELLED) for name in names)


class ArrivalOrder(Pagination):
    """Pages by cursor, oldest first: for logs, so that a reader can go on where it stopped."""

    ordering = "pk"
