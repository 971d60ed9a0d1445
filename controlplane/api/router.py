"""The API's resources that an operator registers."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from controlplane.api.configurations import (
    ClusterConfigViewSet,
    DeviceConfigViewSet,
    HEUConfigViewSet,
    SPUConfigViewSet,
)
from controlplane.api.parties import DatasetViewSet, PartyViewSet
from controlplane.api.task_types import TaskTypeViewSet
from controlplane.api.tasks import TaskViewSet
from workers.contract.registry import further_layers

router = SimpleRouter()
router.register("parties", PartyViewSet)
router.register("datasets", DatasetViewSet)
router.register("cluster-configs", ClusterConfigViewSet)
router.register("spu-configs", SPUConfigViewSet)
router.register("heu-configs", HEUConfigViewSet)
if further_layers():
    router.register("device-configs", DeviceConfigViewSet)
router.register("tasks", TaskViewSet)
router.register("task-types", TaskTypeViewSet, basename="task-type")
