"""The REST API of the lines that parties send of their logs."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.pagination import ArrivalOrder
from executions.models import LogChunk
from workers.contract.logs import LEVELS


class LogLineSerializer(serializers.Serializer[Any]):
    """A line of a party's log, as far as the party's policy lets it out."""

    party = serializers.CharField()
    attempt = serializers.IntegerField()
    at = serializers.DateTimeField(help_text="Time by the party's clock.")
    level = serializers.ChoiceField(choices=list(LEVELS))
    source = serializers.CharField(help_text="Place in the code; empty for a line that continues the one before.")  # type: ignore[assignment]
    text = serializers.CharField(help_text="Its text, or why the text stays at the party.")


class LogQuery(serializers.Serializer[Any]):
    attempt = serializers.IntegerField(min_value=0, max_value=2**31 - 1, required=False)
    party = serializers.CharField(required=False)
    level = serializers.ChoiceField(choices=list(LEVELS), required=False, help_text="The lowest level.")


class MessagePages(ArrivalOrder):
    """Pages of messages, which have up to 100 lines each: a page may have few lines of the level that is asked for."""

    page_size, max_page_size = 20, 50


class LogsAction:
    """Adds the lines of logs to the view set of executions."""

    @extend_schema(summary="List log lines", parameters=[LogQuery], responses=LogLineSerializer(many=True))
    @action(detail=True, pagination_class=MessagePages, filter_backends=[])
    def logs(self, request: Request, pk: str) -> Response:
        """Return what its parties let out of their logs, in the order in which it arrived. All of a party's log is on
        its own host. A page has up to `page_size` messages with up to 100 lines each; go on with `next`."""
        view: Any = self
        wanted = dict(view.asked)
        least = LEVELS[wanted.pop("level", "debug")]
        rows = LogChunk.objects.filter(execution_id=view.get_object().pk, **wanted)
        page: Any = view.paginate_queryset(rows)
        lines = [line for chunk in page for line in chunk.rows() if LEVELS[line["level"]] >= least]
        return view.get_paginated_response(LogLineSerializer(lines, many=True).data)
