"""Client of the SecretFlow control plane's REST API."""

from secretflow_controlplane_client.aio import AsyncClient, AsyncResources
from secretflow_controlplane_client.client import Client, Resources
from secretflow_controlplane_client.connection import VERSION as __version__
from secretflow_controlplane_client.errors import ControlPlaneError
from secretflow_controlplane_client.models import (
    ENDED,
    DryRun,
    Event,
    EventTold,
    Execution,
    ExecutionError,
    FieldProblem,
    Gap,
    LogLine,
    PartyRun,
    Problem,
    Resource,
    Result,
    StateChange,
    StateTold,
    Told,
)
from secretflow_controlplane_client.profile import Applied
from secretflow_controlplane_client.protocol import Retry

__all__ = [
    "ENDED",
    "Applied",
    "AsyncClient",
    "AsyncResources",
    "Client",
    "ControlPlaneError",
    "DryRun",
    "Event",
    "EventTold",
    "Execution",
    "ExecutionError",
    "FieldProblem",
    "Gap",
    "LogLine",
    "PartyRun",
    "Problem",
    "Resource",
    "Resources",
    "Result",
    "Retry",
    "StateChange",
    "StateTold",
    "Told",
    "__version__",
]
