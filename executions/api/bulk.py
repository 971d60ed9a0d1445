"""The REST API's actions on all executions that a filter finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ErrorDetail, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from controlplane.access import NOT_COVERED
from controlplane.api.fields import KnownKeysOnly
from controlplane.api.permissions import StopPermission
from executions.api.filters import ExecutionFilter
from executions.api.submissions import check_room
from executions.models import Execution, NotCancellable
from executions.permissions import VIEW
from executions.states import ENDED, OPEN
from workers.contract.problems import DocumentsInvalid, closest

MOST = 500


class BulkSerializer(KnownKeysOnly):
    """Which executions, and how many of them at most."""

    filter = serializers.DictField(
        allow_empty=False,
        help_text="What to filter by, as the list's parameters: "
        '{"task": "nightly", "status": ["QUEUED", "RUNNING"]}. At least one.',
    )
    limit = serializers.IntegerField(
        min_value=1, max_value=MOST, default=100, help_text="How many at most, newest first."
    )

    def validate_filter(self, given: dict[str, Any]) -> QueryDict:
        found = QueryDict(mutable=True)
        errors: dict[str, Any] = {}
        for name, value in given.items():
            values = value if isinstance(value, list) else [value]
            if name not in ExecutionFilter.base_filters:
                told = closest(name, list(ExecutionFilter.base_filters))
                errors[name] = [ErrorDetail(f"unknown filter; {told}", "unknown_parameter")]
            elif not values or not all(isinstance(each, str | int | bool) and each != "" for each in values):
                errors[name] = [ErrorDetail("should be a text, or a list of texts", "invalid")]
            else:
                found.setlist(name, [str(each) for each in values])
        if errors:
            raise ValidationError(errors)
        return found


class BulkItemSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    url = serializers.URLField()
    done = serializers.BooleanField()
    detail = serializers.CharField(help_text="Why nothing was done; empty if it was.")
    execution = serializers.UUIDField(allow_null=True, help_text="The new execution, of a retry.")


class BulkAnswerSerializer(serializers.Serializer[Any]):
    results = BulkItemSerializer(many=True)
    continue_before = serializers.DateTimeField(
        allow_null=True,
        help_text="If there are more than the limit: send it as created_before to go on; otherwise null.",
    )


class BulkActions:
    """Adds actions on many executions to their view set."""

    @extend_schema(summary="Cancel many executions", request=BulkSerializer, responses=BulkAnswerSerializer)
    @action(methods=["post"], detail=False, url_path="cancel", permission_classes=[StopPermission])
    def cancel_many(self, request: Request) -> Response:
        """Cancel all executions that a filter finds and that have not ended, newest first, up to a limit."""

        def cancel(execution: Execution) -> None:
            try:
                execution.cancel(by=request.user)
            except NotCancellable as error:
                raise _Refused(str(error)) from None

        return self._each(request, OPEN, cancel)

    @extend_schema(summary="Retry many executions", request=BulkSerializer, responses=BulkAnswerSerializer)
    @action(methods=["post"], detail=False, url_path="retry")
    def retry_many(self, request: Request) -> Response:
        """Submit all ended executions that a filter finds again, as new ones, newest first, up to a limit."""
        check_room()
        access = self.access  # type: ignore[attr-defined]

        def retry(execution: Execution) -> Execution:
            if not access.covers(execution):
                raise _Refused(NOT_COVERED)
            try:
                return execution.submit_again(by=request.user, within=access.parties)
            except DocumentsInvalid as error:
                raise _Refused(str(error)) from None

        return self._each(request, tuple(ENDED), retry)

    def _each(self, request: Request, statuses: Any, act: Callable[[Execution], Execution | None]) -> Response:
        view: Any = self
        if not view.access.may(VIEW):
            raise PermissionDenied("To find executions by a filter takes the permission to view them.")
        wanted = BulkSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        limit = wanted.validated_data["limit"]
        rows = _found(view.get_queryset().filter(status__in=statuses), wanted.validated_data["filter"])
        found = list(rows.order_by("-created_at", "-pk")[: limit + 1])
        items = list(_items(request, found[:limit], act))
        more = found[limit - 1].created_at if len(found) > limit else None
        return Response(BulkAnswerSerializer({"results": items, "continue_before": more}).data)


class _Refused(Exception):
    """Nothing was done; the message says why."""


def _found(rows: QuerySet[Execution], given: QueryDict) -> QuerySet[Execution]:
    filters = ExecutionFilter(given, rows)
    if not filters.is_valid():
        raise ValidationError({"filter": {name: list(errors) for name, errors in filters.errors.items()}})
    return filters.qs


def _items(
    request: Request, rows: list[Execution], act: Callable[[Execution], Execution | None]
) -> Iterator[dict[str, Any]]:
    for execution in rows:
        new, why = None, ""
        try:
            new = act(execution)
        except _Refused as error:
            why = str(error)
        yield {
            "id": execution.pk,
            "url": reverse("execution-detail", args=[execution.pk], request=request),
            "done": not why,
            "detail": why,
            "execution": new and new.pk,
        }
