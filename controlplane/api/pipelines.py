"""The REST API of pipelines and schedules, as they are registered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from controlplane.access import Access
from controlplane.api.base import ConfigurationViewSet, save_or_conflict
from controlplane.api.fields import ModelCleaned, NameOrId
from controlplane.models import Pipeline, Schedule, Task
from controlplane.pipelines.plan import MOST_NODES, Node

NEXT_TIMES = 5


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": Node.model_json_schema(),
        "minProperties": 1,
        "maxProperties": MOST_NODES,
        "description": "Name to the node.",
    }
)
class NodesField(serializers.JSONField):
    pass


class StepSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="Name of the node.")
    task = serializers.CharField()
    waits_for = serializers.DictField(
        child=serializers.CharField(), help_text="Maps each node that this one waits for to the reason."
    )
    earlier = serializers.ListField(
        child=serializers.CharField(),
        help_text="Outputs of earlier executions that it reads as they are: no node of this pipeline makes them.",
    )


class PipelineSerializer(ModelCleaned):
    nodes = NodesField()

    class Meta:
        model = Pipeline
        fields = ["id", "name", "description", "nodes", "version", "updated_at"]


class PipelineDetailSerializer(PipelineSerializer):
    """A single pipeline, with what follows from its tasks' documents."""

    steps = serializers.SerializerMethodField(
        help_text="Nodes in an order in which each comes after those that it waits for."
    )

    class Meta(PipelineSerializer.Meta):
        fields = [*PipelineSerializer.Meta.fields, "steps"]

    @extend_schema_field(StepSerializer(many=True))
    def get_steps(self, pipeline: Pipeline) -> Iterable[Any]:
        pipeline.within = Access.of(self.context["request"]).parties
        return StepSerializer(pipeline.flow().steps, many=True).data


class ScheduleSerializer(ModelCleaned):
    task = NameOrId(queryset=Task.objects.all(), allow_null=True, required=False)
    pipeline = NameOrId(queryset=Pipeline.objects.all(), allow_null=True, required=False)
    owner = serializers.SlugRelatedField[Any](
        "username",
        read_only=True,
        help_text="User who changed or confirmed it last; runs are submitted in this user's name.",
    )
    in_words = serializers.SerializerMethodField()
    next_times = serializers.SerializerMethodField(help_text=f"The next {NEXT_TIMES}, if it is switched on.")

    class Meta:
        model = Schedule
        fields = [
            *("id", "name", "description", "cron", "time_zone", "task", "pipeline", "enabled"),
            *("owner", "confirmed_at", "in_words", "next_run_at", "next_times", "version"),
        ]
        read_only_fields = ["next_run_at", "confirmed_at"]

    def get_in_words(self, schedule: Schedule) -> str:
        return schedule.in_words

    @extend_schema_field(serializers.ListField(child=serializers.DateTimeField()))
    def get_next_times(self, schedule: Schedule) -> list[Any]:
        return schedule.next_times(NEXT_TIMES)


class PipelineViewSet(ConfigurationViewSet):
    queryset = Pipeline.objects.all()
    serializer_class = PipelineSerializer
    detail_serializer_class = PipelineDetailSerializer


class ScheduleViewSet(ConfigurationViewSet):
    queryset = Schedule.objects.select_related("task", "pipeline", "owner")
    serializer_class = ScheduleSerializer
    filterset_fields = ["name", "enabled", "task__name", "pipeline__name"]

    def perform_create(self, serializer: serializers.BaseSerializer[Any]) -> None:
        save_or_conflict(serializer, owner=self.request.user)

    perform_update = perform_create
