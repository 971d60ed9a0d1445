"""The REST API's list of task types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, viewsets
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.task_types import described

if TYPE_CHECKING:
    pass


class PlaceSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="The task type's own name of it.")
    where = serializers.CharField(help_text="Such as further_sources.model.")
    kinds = serializers.ListField(
        child=serializers.CharField(), help_text="What may be there: table, or such as a model."
    )
    help = serializers.CharField()


class ExampleSerializer(serializers.Serializer[Any]):
    example = serializers.DictField(help_text="A task_config for the demo's parties alice and bob.")
    request = serializers.DictField(
        help_text="The example with all its documents, as POST /api/v1/executions/ takes it."
    )
    before = serializers.ListField(
        child=serializers.CharField(), help_text="What has to be there before the example runs, for people."
    )


class VariantSerializer(ExampleSerializer):
    name = serializers.CharField()
    description = serializers.CharField()
    cannot_run = serializers.CharField(help_text="Why it cannot run here; empty where it can, as its example then is.")
    places = PlaceSerializer(many=True, help_text="What it reads and keeps.")
    params_schema = serializers.DictField(help_text="JSON Schema of what lies under params_key for this one.")


class TaskTypeSerializer(ExampleSerializer):
    name = serializers.CharField(help_text="As task_config.task_type has it.")
    title = serializers.CharField()
    description = serializers.CharField()
    devices = serializers.ListField(child=serializers.CharField(), help_text="It cannot run without these.")
    params_key = serializers.CharField(help_text="The one key of algorithm_params.")
    params_schema = serializers.DictField(help_text="JSON Schema of what lies under that key.")
    places = PlaceSerializer(many=True, help_text="What it reads and keeps beyond data_sources and outputs.")
    variants = VariantSerializer(many=True, help_text="Where parameters have several shapes, such as components.")


class TaskTypeViewSet(viewsets.ViewSet):
    """What can be computed: every task type with the JSON Schema of its parameters and an example."""

    permission_classes = [IsAuthenticated]

    @extend_schema(responses=TaskTypeSerializer(many=True))
    def list(self, request: Request) -> Response:
        return Response(described())
