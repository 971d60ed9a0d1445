"""What supervisors, load balancers and Prometheus ask for. The settings name these addresses, too."""

from django.urls import path

from executions.health import healthz, readyz
from executions.metrics.view import MetricsView

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", MetricsView.as_view(), name="metrics"),
]
