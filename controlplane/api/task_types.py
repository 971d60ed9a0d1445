"""The REST API's list of task types."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, viewsets
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.query import StrictQuery
from controlplane.task_types import described


class PlaceSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="Name that the task type uses for it.")
    where = serializers.CharField(help_text="Path in the task_config, such as further_sources.model.")
    kinds = serializers.ListField(
        child=serializers.CharField(), help_text="Kinds that are allowed there: table, or a kind of model or rule."
    )
    help = serializers.CharField()


class ExampleSerializer(serializers.Serializer[Any]):
    example = serializers.DictField(help_text="A task_config for the demo's parties alice and bob.")
    request = serializers.DictField(
        help_text="The example with all its documents, as POST /api/v1/executions/ takes it."
    )
    before = serializers.ListField(
        child=serializers.CharField(), help_text="Lists what has to exist before the example runs."
    )


class VariantSerializer(ExampleSerializer):
    name = serializers.CharField()
    description = serializers.CharField()
    cannot_run = serializers.CharField(help_text="Says why it cannot run here; empty if it can.")
    places = PlaceSerializer(many=True, help_text="Lists what it reads and keeps.")
    params_schema = serializers.DictField(help_text="JSON Schema of the value under params_key for this variant.")


class TaskTypeSerializer(ExampleSerializer):
    name = serializers.CharField(help_text="Value of task_config.task_type.")
    title = serializers.CharField()
    description = serializers.CharField()
    devices = serializers.ListField(child=serializers.CharField(), help_text="Devices that it cannot run without.")
    params_key = serializers.CharField(help_text="The only key of algorithm_params.")
    params_schema = serializers.DictField(help_text="JSON Schema of the value under that key.")
    result_schema = serializers.DictField(help_text="JSON Schema of what comes of it, as an execution's result.")
    places = PlaceSerializer(many=True, help_text="Lists what it reads and keeps beside data_sources and outputs.")
    variants = VariantSerializer(
        many=True, help_text="Its variants, where parameters have several shapes, as those of components do."
    )


class TaskTypeViewSet(StrictQuery, viewsets.ViewSet):
    """Lists every task type with the JSON Schema of its parameters and an example."""

    permission_classes = [IsAuthenticated]
    paged = frozenset()

    @extend_schema(summary="List task types", responses=TaskTypeSerializer(many=True))
    def list(self, request: Request) -> Response:
        """Return every task type, with the JSON Schema of its parameters and an example."""
        return Response(described())
