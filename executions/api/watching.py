"""The REST API's streams of what happens, as server-sent events, and requests that wait for it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError as InvalidLabels
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, viewsets
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from controlplane.access import Access
from controlplane.api.authentication import valid_token
from controlplane.api.errors import Overloaded, Problem
from controlplane.api.query import StrictQuery
from controlplane.api.renderers import OtherForm
from executions.models import Execution, Label
from executions.permissions import VIEW
from executions.watching.changes import EVENT, STATE, Position
from executions.watching.hub import hub
from executions.watching.stream import MOST_STREAMS, Wanted, shared, stream

LAST = "Last-Event-ID"


class EventStreamRenderer(OtherForm):
    """Lets a service ask for server-sent events."""

    media_type, format, charset = "text/event-stream", "sse", None


class NoStreams(Problem):
    """The web server has a thread for each request."""

    status_code = 406
    kind = "not-acceptable"
    default_code = "not_acceptable"
    default_detail = "This web server cannot send streams: the control plane has to run as ASGI (docs/operations.md)."


class StreamQuery(serializers.Serializer[Any]):
    execution = serializers.UUIDField(required=False, help_text="Only this execution.")
    party = serializers.CharField(required=False, help_text="Only executions that this party takes part in.")
    label = serializers.CharField(  # type: ignore[assignment]
        required=False, help_text="Only executions with this label, key:value or a key; give several to ask for all."
    )
    kind = serializers.ChoiceField(
        choices=[STATE, EVENT],
        required=False,
        help_text="Only changes of the executions' states, or only the parties' events.",
    )
    last_event_id = serializers.CharField(
        required=False, help_text="Where to go on: the id of the last event that was received. Also as Last-Event-ID."
    )


class EventStreamViewSet(StrictQuery, viewsets.ViewSet):
    """Streams what happens to all executions."""

    queryset = Execution.objects.all()
    queries = {"list": StreamQuery}
    paged = frozenset()
    renderer_classes = [EventStreamRenderer]

    @extend_schema(
        operation_id="events_stream",
        summary="Stream events",
        parameters=[StreamQuery, OpenApiParameter(LAST, OpenApiTypes.STR, OpenApiParameter.HEADER)],
        responses={(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def list(self, request: Request) -> StreamingHttpResponse:
        """Stream what happens as server-sent events: `state` for each change of an execution's state, `event` for each
        event that a party sent. The stream ends after an hour; go on with `Last-Event-ID`."""
        return streamed(request, **self.asked)


def streamed(
    request: Request,
    execution: Any = "",
    party: str = "",
    kind: str = "",
    label: str = "",
    last_event_id: str = "",
) -> StreamingHttpResponse:
    """Return the stream that a request asks for. Raises ValidationError for an id that is none, and Problem where there
    can be no stream."""
    given = request.headers.get(LAST) or last_event_id
    after = Position.read(given) if given else None
    if given and after is None:
        raise ValidationError({LAST: [ErrorDetail("should be the id of an event of such a stream", "invalid")]})
    labels = _labels(request.query_params.getlist("label"))
    if not isinstance(request._request, ASGIRequest):
        raise NoStreams()
    if len(hub) >= MOST_STREAMS:
        raise Overloaded("Too many streams are open; try again later, or ask for the lists.")
    wanted = Wanted(
        _sender(request),
        execution=str(execution),
        party=party,
        labels=labels,
        kinds=frozenset({kind} if kind else ()),
    )
    wanted.parties = Access.of(request).parties
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    # Django would keep this thread's connection until the stream ends: a pool has few, and nobody else got any more
    if not connection.in_atomic_block:
        connection.close()
    return StreamingHttpResponse(stream(wanted, after), content_type="text/event-stream", headers=headers)


def _labels(texts: list[str]) -> list[tuple[str, str | None]]:
    try:
        return Label.terms(texts)
    except InvalidLabels as error:
        raise ValidationError({"label": [ErrorDetail(text, "invalid") for text in error.messages]}) from None


def _sender(request: Request) -> Any:
    """Return a function that looks what the sender may see by now; it returns None once that is nothing."""
    user, token = request.user.pk or 0, getattr(request.auth, "pk", None)

    @shared(f"{user} {token}")
    def look() -> Access | None:
        found = User.objects.filter(pk=user, is_active=True).first()
        kept = valid_token(pk=token) if token else None
        if found is None or (token and kept is None):
            return None
        access = Access(found, getattr(kept, "terms", None), is_token=token is not None)
        return access if access.may(VIEW) else None

    return look
