"""All of the API's resources, what operators register and what was run, in one router: its root lists them."""

from rest_framework.routers import DefaultRouter

from controlplane.api import router as registered
from executions.api import ExecutionViewSet
from executions.preflight_api import PreflightViewSet

router = DefaultRouter()
router.registry.extend(registered.registry)
router.register("executions", ExecutionViewSet)
router.register("preflights", PreflightViewSet)
urlpatterns = router.urls
