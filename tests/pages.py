"""Every kind of page of the console, with something to show on it."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.utils import timezone

from executions.models import ExecutionEvent, PartyRun, StateChange
from tests.walked import Circle

BINS = [[0.8, 10, 10, 0.9], [0.5, 10, 6, 0.65], [0.2, 20, 3, 0.35], [None, 10, 0, 0.1]]
MODEL = {
    "rows": 50,
    "metrics": {"auc": 0.95, "ks": 0.7},
    "bins": {"columns": ["from", "rows", "positives", "prediction"], "rows": BINS},
    "warnings": ["rows were taken as they are"],
}
#: Pages without a row of a circle.
PLAIN = (
    "", "executions/execution/", "executions/execution/?q=nothing", "executions/pipelinerun/", "executions/approval/",
    "executions/deadletter/", "controlplane/party/", "controlplane/party/add/", "controlplane/task/",
    "controlplane/task/add/", "controlplane/dataset/", "controlplane/dataset/add/", "controlplane/pipeline/",
    "controlplane/schedule/", "controlplane/schedule/add/", "controlplane/clusterconfig/add/",
    "controlplane/spuconfig/add/", "controlplane/heuconfig/add/", "auth/user/", "auth/group/",
    "controlplane/auditentry/", "knox/authtoken/", "knox/authtoken/add/", "password_change/",
    "account/", "account/second-factor/", "notifications/", "notifications/settings/", "auth/user/add/",
    "auth/group/add/", "controlplane/task/types/", "controlplane/pipeline/add/",
    "executions/webhook/", "executions/webhook/add/",
)  # fmt: skip
#: Pages of one row.
OF_A_ROW = (
    ("execution", "executions/execution/{}/change/"),
    ("execution", "executions/execution/compare/?id={}"),
    ("execution", "executions/execution/{}/rerun/"),
    ("pipelinerun", "executions/pipelinerun/{}/change/"),
    ("deadletter", "executions/deadletter/{}/change/"),
    ("task", "controlplane/task/{}/change/"),
    ("task", "controlplane/task/{}/dry-run/"),
    ("task", "controlplane/task/{}/run/"),
    ("dataset", "controlplane/dataset/{}/change/"),
    ("spuconfig", "controlplane/spuconfig/{}/change/"),
    ("heuconfig", "controlplane/heuconfig/{}/change/"),
    ("pipeline", "controlplane/pipeline/{}/change/"),
    ("schedule", "controlplane/schedule/{}/change/"),
    ("clusterconfig", "controlplane/clusterconfig/{}/change/"),
    ("alice", "controlplane/party/{}/change/"),
    ("alice", "controlplane/party/{}/pause/"),
    ("alice", "controlplane/party/{}/history/"),
    ("alice", "controlplane/party/{}/delete/"),
)


def paths() -> list[str]:
    """Every page, with something to show on it."""
    circle = Circle.make("alice", "bob", 20000)
    execution = circle.rows["execution"]
    now = timezone.now()
    type(execution).objects.filter(pk=execution.pk).update(
        status="SUCCESS", attempt=1, result=MODEL, task_type="lr", dispatched_at=now, started_at=now, ended_at=now
    )
    StateChange.objects.create(execution=execution, from_status="QUEUED", to_status="SUCCESS", why="all succeeded")
    PartyRun.objects.create(
        execution=execution, party=circle.rows["alice"], attempt=1, job_id="a", status="SUCCESS", released_at=now
    )
    ExecutionEvent.objects.create(
        execution=execution, party="alice", attempt=1, sequence=1, status="RUNNING", stage="sf_init", timestamp=now
    )
    root = f"auth/user/{User.objects.get(username='root').pk}/change/"
    return [*PLAIN, root, *(pattern.format(circle.rows[name].pk) for name, pattern in OF_A_ROW)]
