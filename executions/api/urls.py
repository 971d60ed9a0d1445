"""All resources of the API in one router, so that its root lists them."""

from rest_framework.routers import DefaultRouter

from controlplane.api.pipelines import PipelineViewSet
from controlplane.api.router import router as registered
from executions.api.executions import ExecutionViewSet
from executions.api.pipelines import PipelineRunViewSet, RunningScheduleViewSet
from executions.api.preflights import PreflightViewSet
from executions.api.watching import EventStreamViewSet
from executions.api.webhooks import WebhookViewSet

router = DefaultRouter()
router.registry.extend(registered.registry)
router.register("pipelines", PipelineViewSet)
router.register("schedules", RunningScheduleViewSet)
router.register("executions", ExecutionViewSet)
router.register("events", EventStreamViewSet, basename="event")
router.register("preflights", PreflightViewSet)
router.register("webhooks", WebhookViewSet)
router.register("pipeline-runs", PipelineRunViewSet)
urlpatterns = router.urls
