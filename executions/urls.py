from rest_framework.routers import SimpleRouter

from executions.api import ExecutionViewSet

router = SimpleRouter()
router.register("executions", ExecutionViewSet)
urlpatterns = router.urls
