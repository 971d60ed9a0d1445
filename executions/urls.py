"""All of the API's resources, what operators register and what was run, in one router: its root lists them."""

from controlplane.api.router import router as registered
from rest_framework.routers import DefaultRouter

from controlplane.api.pipelines import PipelineViewSet
from executions.api import ExecutionViewSet
from executions.pipeline_api import PipelineRunViewSet, RunningScheduleViewSet
from executions.preflight_api import PreflightViewSet

router = DefaultRouter()
router.registry.extend(registered.registry)
router.register("pipelines", PipelineViewSet)
router.register("schedules", RunningScheduleViewSet)
router.register("executions", ExecutionViewSet)
router.register("preflights", PreflightViewSet)
router.register("pipeline-runs", PipelineRunViewSet)
urlpatterns = router.urls
