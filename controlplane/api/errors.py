"""The API's errors: problem details as RFC 9457 has them, with every problem of a request at its path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import JsonResponse
from drf_standardized_errors.formatter import flatten_errors
from drf_standardized_errors.handler import ExceptionHandler
from rest_framework import serializers
from rest_framework.exceptions import APIException, ParseError
from rest_framework.response import Response

from controlplane import request_id

MEDIA_TYPE = "application/problem+json"
#: What a ``type`` begins with. It names a kind and leads nowhere: docs/services.md lists the kinds.
URN = "urn:secretflow-controlplane:problem:"
#: Kinds of problems with their titles. A kind keeps its name: services decide by it.
TITLES = {
    "invalid": "Something in the request is wrong.",
    "malformed": "The body cannot be read.",
    "not-authenticated": "The request says not who sends it, or not rightly.",
    "forbidden": "The sender may not do this.",
    "not-found": "There is nothing at this address that the sender may see.",
    "method-not-allowed": "This address does not take this method.",
    "not-acceptable": "This address cannot answer in the form that was asked for.",
    "conflict": "The current state does not allow it.",
    "in-progress": "A request with this Idempotency-Key is still at work.",
    "stale": "It has been changed since it was read.",
    "too-large": "The body is too large.",
    "unsupported-media-type": "The body has a form that this address does not take.",
    "key-reused": "This Idempotency-Key was used for another request.",
    "too-many-requests": "There were too many requests.",
    "internal": "The control plane has failed; its log says why.",
    "unavailable": "The control plane cannot do it at the moment; nothing was done.",
    "overloaded": "Too much is waiting already; nothing was done.",
}
TYPES = [URN + kind for kind in TITLES]
_KIND_OF = {
    400: "invalid",
    401: "not-authenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    413: "too-large",
    415: "unsupported-media-type",
    429: "too-many-requests",
}


class Problem(APIException):
    """A problem of a kind of its own. ``wait``: seconds after which another try may succeed."""

    kind: str
    wait: int | None = None


class Conflict(Problem):
    """The request is well formed, and the current state does not allow it."""

    status_code = 409
    default_code = kind = "conflict"
    default_detail = "This is not possible in the current state."


class Stale(Problem):
    """The request was made for a version that is not the current one."""

    status_code = 412
    default_code = kind = "stale"


class TooLarge(Problem):
    """The body is over DATA_UPLOAD_MAX_MEMORY_SIZE."""

    status_code = 413
    kind = "too-large"
    default_code = "too_large"
    default_detail = "The body is too large."


class Unavailable(Problem):
    """The database is locked or away. Nothing was done: each write is one transaction."""

    status_code = 503
    default_code = kind = "unavailable"
    default_detail = "The database is busy or does not answer; nothing was done, try again."
    wait = 5


class Overloaded(Problem):
    """There is as much as there may be already."""

    status_code = 503
    default_code = kind = "overloaded"
    wait = 10


class Handler(ExceptionHandler):
    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, RequestDataTooBig):
            return TooLarge()
        if isinstance(exc, OperationalError | InterfaceError):
            return Unavailable()
        return super().convert_known_exceptions(exc)

    def format_exception(self, exc: APIException) -> dict[str, Any]:
        entries = [{"path": e.attr, "code": e.code, "detail": e.detail} for e in flatten_errors(exc.detail)]
        return problem(_kind_of(exc), exc.status_code, entries)

    def get_response(self, exc: APIException, data: dict[str, Any]) -> Response:
        return Response(data, exc.status_code, headers=self.get_headers(exc), content_type=MEDIA_TYPE)


def _kind_of(exc: APIException) -> str:
    if isinstance(exc, Problem):
        return exc.kind
    return "malformed" if isinstance(exc, ParseError) else _KIND_OF.get(exc.status_code, "internal")


def problem(kind: str, status: int, entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the body of an error; ``entries``: ``path``, ``code`` and ``detail`` of each problem."""
    errors = list(entries)
    first = _in_words(errors[0]) if errors else TITLES[kind]
    detail = first if len(errors) < 2 else f"{first} ({len(errors)} problems in all: see errors.)"
    return {
        "type": URN + kind,
        "title": TITLES[kind],
        "status": status,
        "detail": detail,
        "errors": errors,
        "request_id": request_id.current(),
    }


def _in_words(entry: dict[str, Any]) -> str:
    return f"{entry['path']}: {entry['detail']}" if entry["path"] else str(entry["detail"])


def answer(kind: str, status: int, code: str, detail: str) -> JsonResponse:
    """Return the answer of what is no view of REST framework's."""
    return JsonResponse(
        problem(kind, status, [{"path": None, "code": code, "detail": detail}]), status=status, content_type=MEDIA_TYPE
    )


class ErrorEntry(serializers.Serializer[Any]):
    path = serializers.CharField(
        allow_null=True, help_text="Path of what is wrong, such as spu_config.runtime_config.protocol."
    )
    code = serializers.CharField()
    detail = serializers.CharField(help_text="Says what is wrong and what would be right.")


class ErrorBody(serializers.Serializer[Any]):
    """Body of every error: problem details (RFC 9457) with one entry for each problem."""

    type = serializers.ChoiceField(choices=TYPES, help_text="Kind of the problem.")
    title = serializers.CharField(help_text="The kind in words.")
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="The first problem.")
    errors = ErrorEntry(many=True)  # type: ignore[assignment]
    request_id = serializers.CharField(help_text="Id of the request, by which the log is searched; also X-Request-ID.")
