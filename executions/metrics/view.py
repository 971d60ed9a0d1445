"""/metrics, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from controlplane.access import Access
from executions.metrics.collector import exposition
from executions.permissions import VIEW


class SeesAllParties(BasePermission):
    """Lets in who may view the executions of all parties: the figures name every party, and tell how busy it is."""

    message = (
        "The metrics are of all parties: they take the permission to view executions, a grant of all parties, and, "
        "with a token, the scope read and no list of parties."
    )

    def has_permission(self, request: Request, view: Any) -> bool:
        access = Access.of(request)
        return bool(request.user.is_authenticated and access.may(VIEW) and access.parties is None)


class AnyAnswer(BaseContentNegotiation):
    """Answers whatever the client prefers: Prometheus lists formats of its own, which an error does not have."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        found = next(iter(renderers))
        return found, found.media_type


class MetricsView(APIView):
    permission_classes = [SeesAllParties]
    content_negotiation_class = AnyAnswer

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """Return all metrics in Prometheus' text format."""
        return HttpResponse(exposition(), content_type=CONTENT_TYPE_PLAIN_0_0_4, headers={"Cache-Control": "no-store"})
