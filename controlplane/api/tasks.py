"""The REST API of tasks."""

from __future__ import annotations

from controlplane.api.base import ConfigurationViewSet
from controlplane.api.fields import DocumentField, ModelCleaned, NameOrId
from controlplane.models import (
    ClusterConfig,
    HEUConfig,
    SPUConfig,
    Task,
)


class TaskSerializer(ModelCleaned):
    cluster = NameOrId(queryset=ClusterConfig.objects.all())
    spu = NameOrId(queryset=SPUConfig.objects.all(), allow_null=True, required=False)
    heu = NameOrId(queryset=HEUConfig.objects.all(), allow_null=True, required=False)
    document = DocumentField(layer="task_config")

    class Meta:
        model = Task
        fields = [
            "id",
            "name",
            "description",
            "cluster",
            "spu",
            "heu",
            "devices",
            "document",
            *Task.option_names(),
            "version",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["created_at"]


class TaskViewSet(ConfigurationViewSet):
    queryset = Task.objects.select_related("cluster", "spu", "heu")
    serializer_class = TaskSerializer
