"""The API's description, and a site on which its examples work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import yaml
from django.utils import timezone
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from rest_framework.test import APIClient

from controlplane.environment import ROOT
from controlplane.models import Dataset, Party, Pipeline, Schedule, Site, Task
from executions.coordinator.webhooks import prepare_test
from executions.models import (
    Execution,
    ExecutionEvent,
    LogChunk,
    PartyCheck,
    PartyRun,
    PipelineRun,
    PostStatus,
    Preflight,
    StateChange,
    Tick,
    Webhook,
)  # fmt: skip
from executions.states import RunStatus, Status
from tests.composed import make_chain, make_execution, make_pipeline, make_task
from tests.simulated import end_node, settle_pipelines

FILE = ROOT / "docs/openapi.yaml"
RESULT = {"original_count": {"alice": 460, "bob": 450}, "intersection_count": {"alice": 363, "bob": 363}}
#: In this order: a later one may name what an earlier one has added.
REGISTERED = (
    "parties", "datasets", "cluster_configs", "spu_configs", "heu_configs", "tasks", "pipelines", "schedules",
    "webhooks",
)  # fmt: skip
METHODS = ("get", "post", "put", "patch", "delete")


@cache
def document() -> dict[str, Any]:
    """Return docs/openapi.yaml."""
    found: dict[str, Any] = yaml.load(FILE.read_text(), Loader=yaml.CSafeLoader)
    return found


@dataclass(frozen=True)
class Operation:
    id: str
    method: str
    path: str
    told: dict[str, Any]

    def requests(self) -> Iterator[tuple[str, Any]]:
        """Yield each example of a body with its title; one without a body if the operation has none."""
        content = self.told.get("requestBody", {}).get("content", {}).get("application/json", {})
        found = {name: example["value"] for name, example in content.get("examples", {}).items()}
        yield from (found or {"": None}).items()

    def success(self) -> tuple[int, dict[str, Any]]:
        """Return what the operation answers if it is not a dry run."""
        codes = [int(code) for code in self.told["responses"] if code.startswith("2")]
        return max(codes), self.told["responses"][str(max(codes))]

    def answers(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for code, answer in self.told["responses"].items():
            for media_type, content in resolved(answer).get("content", {}).items():
                yield code, media_type, content


def operations() -> list[Operation]:
    return [
        Operation(told["operationId"], method, path, told)
        for path, item in document()["paths"].items()
        for method, told in item.items()
        if method in METHODS
    ]


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, without a reference at its top."""
    if "$ref" not in part:
        return part
    found: Any = document()
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


def problems_of(value: Any, schema: dict[str, Any]) -> list[str]:
    """Return how a value differs from a schema of the document."""
    whole = schema | {"components": document()["components"]}
    return [f"{error.json_path}: {error.message[:200]}" for error in Draft202012Validator(whole).iter_errors(value)]


class PreparedSite:
    """Everything that the examples name. ``ids``: what stands for ``{id}`` in an operation's path."""

    def __init__(self, client: APIClient) -> None:
        self.client = client
        self.ids: dict[str, Any] = {}
        make_chain()
        task = make_task()
        make_pipeline("patients", join="intersect")
        columns = {"uid": "str", "label": "int"}
        for party in Party.objects.all():
            Dataset.objects.create(party=party, name="breast_cancer", columns=columns, key_columns=["uid"])
        site = Site.current()
        site.environment, site.security = "test", "trial"
        site.save()
        by_id = {operation.id: operation for operation in operations()}
        for resource in REGISTERED:
            operation = by_id[f"{resource}_create"]
            body = next(operation.requests())[1]
            response = client.post(operation.path, body, format="json")
            assert response.status_code == 201, (operation.id, response.content)
            self.ids[resource] = response.json()["id"]
            assert response["Location"].endswith(f"/{self.ids[resource]}/")
        self._run(task)

    def _run(self, task: Task) -> None:
        ended = _ended(task)
        waiting = make_execution(task, labels={"team": "risk"})
        self.ids |= {"executions": ended.pk, "executions_cancel": waiting.pk, "preflights": ended.preflights.get().pk}
        runs = [PipelineRun.objects.submit(Pipeline.objects.get(name="patients")) for _ in range(2)]
        settle_pipelines()
        end_node(runs[0], "join", Status.FAILURE)
        self.ids |= {"pipeline_runs": runs[0].pk, "pipeline_runs_cancel": runs[1].pk}
        schedule = Schedule.objects.get(pk=self.ids["schedules"])
        Tick.objects.create(schedule=schedule, due_at=timezone.now(), pipeline_run=runs[0])
        delivery = prepare_test(Webhook.objects.get(pk=self.ids["webhooks"]))
        delivery.status, delivery.ended_at, delivery.number_of_tries = PostStatus.GIVEN_UP, timezone.now(), 1
        delivery.tries = [{"at": timezone.now().isoformat(), "status": 500, "error": "answered 500", "seconds": 0.2}]
        delivery.save()
        self.delivery = delivery.pk

    def address(self, operation: Operation) -> str:
        """Return an operation's path for what is here."""
        resource = operation.path.removeprefix("/api/v1/").split("/")[0].replace("-", "_")
        found = self.ids.get(operation.id, self.ids.get(resource))
        return operation.path.format(id=found, number=0, delivery=self.delivery)


def _ended(task: Task) -> Execution:
    """An intersection that has succeeded, with all that its parties reported."""
    now = timezone.now()
    execution = make_execution(
        task,
        status=Status.SUCCESS, attempt=1, result=RESULT, stage="cleanup", progress=1.0, labels={"team": "risk"},
        created_at=now - timedelta(seconds=14), dispatched_at=now - timedelta(seconds=12),
        started_at=now - timedelta(seconds=11), ended_at=now,
    )  # fmt: skip
    preflight = Preflight.objects.create(execution=execution, name=execution.name)
    for status in ("DISPATCHED", "RUNNING", "SUCCESS"):
        StateChange.objects.create(execution=execution, from_status="", to_status=status, at=now)
    for name in ("alice", "bob"):
        party = Party.objects.get(name=name)
        PartyRun.objects.create(
            execution=execution, party=party, attempt=1, job_id=f"{name}-1", worker=f"{name}-host-1",
            dispatched_at=now - timedelta(seconds=12), started_at=now - timedelta(seconds=11), ended_at=now,
            status=RunStatus.SUCCESS, result=RESULT, progress=1.0, execution_seconds=10.5,
        )  # fmt: skip
        ExecutionEvent.objects.create(
            execution=execution, party=name, attempt=1, sequence=1, status="RUNNING", stage="sf_init", timestamp=now,
            received_at=now, worker=f"{name}-host-1",
        )  # fmt: skip
        checks = [{"check": "ports", "error": "", "error_type": ""}]
        facts = {"cpus": 8, "versions": {"secretflow": "1.14.0b0"}}
        PartyCheck.objects.create(
            preflight=preflight, party=party, facts=facts, results=checks, answered_at=now, worker=f"{name}-host-1"
        )
    lines = [[now.timestamp(), 20, "workers.runtime.job", "computing"]]
    LogChunk.objects.create(
        execution=execution, party="alice", attempt=1, sequence=1, lines=lines, count=1, size=len(json.dumps(lines))
    )
    return execution
