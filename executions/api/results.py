"""The REST API of what came of an execution: its result, tables, outputs, and what its time went into."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from controlplane.api.query import whole_number
from controlplane.api.renderers import OtherForm
from controlplane.spreadsheets import as_csv
from executions.models import Execution, PartyRun
from executions.results.blocks import Block
from executions.results.lineage import Table, inputs_and_outputs
from executions.results.phases import PHASES, phases, stages, waits
from executions.results.reading import read, table_of


class CSVRenderer(OtherForm):
    """Lets a service ask for CSV."""

    media_type, format, charset = "text/csv", "csv", "utf-8"


class TableSerializer(serializers.Serializer[Any]):
    """A table of the result, as the console shows it, with all of its rows and digits."""

    number = serializers.IntegerField(help_text="Its place in the result, from 0.")
    url = serializers.URLField(help_text="The table alone; with Accept: text/csv as CSV.")
    title = serializers.CharField()
    kind = serializers.CharField(help_text="How the console draws it: table, figures, bars, heat_map, chart, ...")
    text = serializers.CharField(help_text="What it shows, in a sentence; often empty.")
    columns = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(child=serializers.ListField(child=serializers.JSONField(allow_null=True)))
    left_out = serializers.IntegerField(help_text="Rows of the party's report that are not in the result.")


class DatasetOfTableSerializer(serializers.Serializer[Any]):
    party = serializers.CharField()
    dataset = serializers.IntegerField(allow_null=True, help_text="Its id, if it is registered and you may see it.")
    url = serializers.URLField(allow_null=True)
    rows = serializers.IntegerField(allow_null=True, help_text="As the party last reported.")


class PlaceOfTableSerializer(serializers.Serializer[Any]):
    """An input or output, with its dataset at each party that has a part of it."""

    role = serializers.CharField(help_text="What it is to the task type; empty for the only one.")
    name = serializers.CharField()
    made_by = serializers.UUIDField(allow_null=True, help_text="Another execution that made it.")
    parties = DatasetOfTableSerializer(many=True)


class WaitSerializer(serializers.Serializer[Any]):
    status = serializers.CharField(help_text="QUEUED, RETRY or AWAITING_APPROVAL.")
    began_at = serializers.DateTimeField()
    seconds = serializers.FloatField()
    why = serializers.CharField()


class PhaseSerializer(serializers.Serializer[Any]):
    attempt = serializers.IntegerField()
    party = serializers.CharField()
    phase = serializers.ChoiceField(choices=list(PHASES))
    began_at = serializers.DateTimeField()
    seconds = serializers.FloatField()


class TimeSerializer(serializers.Serializer[Any]):
    waited_seconds = serializers.FloatField(allow_null=True, help_text="Until the first party began the last attempt.")
    ran_seconds = serializers.FloatField(allow_null=True, help_text="From then to the end.")
    waits = WaitSerializer(many=True)
    phases = PhaseSerializer(many=True, help_text="What each party's time went into, in their order.")


class HostSerializer(serializers.Serializer[Any]):
    party = serializers.CharField()
    worker = serializers.CharField()
    facts = serializers.DictField(help_text="What the party's host said of itself before the run: versions, cores, ...")


class ResultSerializer(serializers.Serializer[Any]):
    execution = serializers.UUIDField()
    status = serializers.CharField()
    task_type = serializers.CharField()
    headline = serializers.CharField(help_text="The answer in a sentence; empty if there is none.")
    result = serializers.DictField(
        help_text="What the parties computed, of the form that /api/v1/task-types/ gives as result_schema."
    )
    warnings = serializers.ListField(child=serializers.CharField())
    tables = TableSerializer(many=True)
    inputs = PlaceOfTableSerializer(many=True)
    outputs = PlaceOfTableSerializer(many=True)
    time = TimeSerializer()
    environment = HostSerializer(many=True)


class ResultActions:
    """Adds results to the view set of executions."""

    @extend_schema(summary="Read a result", responses=ResultSerializer)
    @action(detail=True, filter_backends=[], pagination_class=None)
    def result(self, request: Request, pk: str) -> Response:
        """Return what came of an execution: its result with its tables, the datasets that it read and made, what its
        time went into, and what it ran on."""
        view: Any = self
        execution: Execution = view.get_object()
        found = read(execution.task_type, execution.result)
        kept = execution.result if isinstance(execution.result, dict) else {}
        runs = list(execution.runs.select_related("party").defer("result").order_by("attempt", "pk"))
        inputs, outputs = inputs_and_outputs(execution, view.access)
        told = {
            "execution": execution.pk,
            "status": execution.status,
            "task_type": execution.task_type,
            "headline": found.headline,
            "result": {name: value for name, value in kept.items() if name not in ("outputs", "warnings")},
            "warnings": found.warnings,
            "tables": [_table(request, execution, number, block) for number, block in enumerate(found.blocks)],
            "inputs": [_place(request, table) for table in inputs],
            "outputs": [_place(request, table) for table in outputs],
            "time": _time(execution, runs),
            "environment": list(_hosts(execution, runs)),
        }
        return Response(ResultSerializer(told).data)

    @extend_schema(
        summary="Read a table of a result",
        parameters=[OpenApiParameter("number", OpenApiTypes.INT, OpenApiParameter.PATH)],
        responses={(200, "application/json"): TableSerializer, (200, "text/csv"): OpenApiTypes.STR},
    )
    @action(
        detail=True,
        url_path=r"result/tables/(?P<number>[^/.]+)",
        filter_backends=[],
        pagination_class=None,
        renderer_classes=[JSONRenderer, CSVRenderer],
    )
    def table(self, request: Request, pk: str, number: str) -> Any:
        """Return a table of the result as JSON or, with `Accept: text/csv`, as CSV with all digits."""
        view: Any = self
        execution: Execution = view.get_object()
        place = whole_number(number, 6)
        block = None if place is None else table_of(execution.task_type, execution.result, place)
        if place is None or block is None:
            raise NotFound("The result has no table of this number.")
        if request.accepted_renderer.format == CSVRenderer.format:
            return HttpResponse(as_csv(block.columns, block.rows), content_type="text/csv; charset=utf-8")
        return Response(_table(request, execution, place, block))


def _table(request: Request, execution: Execution, number: int, block: Block) -> dict[str, Any]:
    url = reverse("execution-table", args=[execution.pk, number], request=request)
    return {
        "number": number,
        "url": url,
        "title": str(block.title),
        "kind": block.kind,
        "text": str(block.text),
        "columns": [str(name) for name in block.columns],
        "rows": [[_cell(value) for value in row] for row in block.rows],
        "left_out": block.left_out,
    }


def _cell(value: Any) -> Any:
    """Return a value as JSON can have it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _place(request: Request, table: Table) -> dict[str, Any]:
    def of(party: str) -> dict[str, Any]:
        dataset = table.datasets.get(party)
        return {
            "party": party,
            "dataset": dataset and dataset.pk,
            "url": dataset and reverse("dataset-detail", args=[dataset.pk], request=request),
            "rows": dataset and dataset.reported_rows,
        }

    parties = [of(party) for party in table.parties]
    return {"role": table.role, "name": table.name, "made_by": table.made_by, "parties": parties}


def _time(execution: Execution, runs: list[PartyRun]) -> dict[str, Any]:
    """Return the waits of an execution, and the phases of its attempts. Takes two queries."""
    now = timezone.now()
    changes = list(execution.changes.order_by("at", "pk"))
    waited = [
        {
            "status": wait.change.to_status,
            "began_at": wait.began,
            "seconds": (wait.ended - wait.began).total_seconds(),
            "why": wait.why,
        }
        for wait in waits(changes, now)
    ]
    return {
        "waited_seconds": _seconds(execution.waited),
        "ran_seconds": _seconds(execution.ran),
        "waits": waited,
        "phases": list(_phases(execution, runs, now)),
    }


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def _phases(execution: Execution, runs: Iterable[PartyRun], now: Any) -> Iterator[dict[str, Any]]:
    by_attempt: dict[int, list[PartyRun]] = {}
    for run in runs:
        by_attempt.setdefault(run.attempt, []).append(run)
    reached = stages(execution) if by_attempt else []
    for attempt, of in by_attempt.items():
        for found in phases(execution, attempt, of, reached, now):
            for began, ended, phase in found.spans():
                seconds = (ended - began).total_seconds()
                party = found.run.party.name
                yield {"attempt": attempt, "party": party, "phase": phase, "began_at": began, "seconds": seconds}


def _hosts(execution: Execution, runs: list[PartyRun]) -> Iterator[dict[str, Any]]:
    """Yield what the hosts of the last attempt said of themselves. Takes two queries."""
    latest = execution.preflights.first()
    facts = {check.party.name: check.facts for check in latest.parties} if latest else {}
    for run in (run for run in runs if run.attempt == execution.attempt):
        told = facts.get(run.party.name)
        known = told if isinstance(told, dict) else {}
        shown = {name: known[name] for name in ("versions", "cpus", "free_memory", "free_disk") if name in known}
        yield {"party": run.party.name, "worker": run.worker, "facts": shown}
