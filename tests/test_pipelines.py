"""Pipelines: checked as a whole, run in their order with branches side by side, retried and cancelled.

The coordinator, the database and Redis are real; of the parties there is what they leave behind.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from controlplane.models import Dataset, Pipeline, Task
from executions import pipelines
from executions.models import Execution, PipelineRun
from executions.states import PipelineStatus, Status, transition
from tests.composed import PSI, make_task

pytestmark = pytest.mark.django_db


def make_tasks() -> dict[str, Task]:
    """An intersection, a second one, and two regressions on what the first keeps."""
    psi = make_task("intersect")
    other = copy_of(psi, "again", outputs={"alice": "common_2", "bob": "common_2"})
    lr = {
        "task_type": "lr",
        "data_sources": {"alice": "common", "bob": "common"},
        "algorithm_params": {
            "ml_params": {"features": {"alice": ["age"]}, "label": {"party": "bob", "column": "income"},
                          "model_type": "linear_regression"},
        },
    }  # fmt: skip
    train = copy_of(psi, "train", **lr, outputs={"bob": "predicted"})
    return {"intersect": psi, "again": other, "train": train, "more": copy_of(psi, "more", **lr, outputs={"bob": "m"})}


def copy_of(task: Task, name: str, **document: Any) -> Task:
    new = Task(name=name, cluster=task.cluster, spu=task.spu, document=PSI | document)
    new.full_clean()
    new.save()
    return new


def make_pipeline(**nodes: Any) -> Pipeline:
    """By node: the task's name, or the whole node."""
    named = {name: {"task": node} if isinstance(node, str) else node for name, node in nodes.items()}
    pipeline = Pipeline(name="patients", nodes=named)
    pipeline.full_clean()
    pipeline.save()
    return pipeline


def states(run: PipelineRun) -> dict[str, str]:
    run.refresh_from_db()
    return {node.name: str(node.state) for node in run.outlook()}


def settle_down() -> None:
    for _ in range(20):
        if not pipelines.step():
            return
    raise AssertionError("always something to do")


def end(run: PipelineRun, node: str, status: Status = Status.SUCCESS) -> Execution:
    """A node's execution ends; of one that succeeds the outputs are there."""
    execution = run.nodes.get(name=node).execution
    assert execution, node
    transition(execution, Status.DISPATCHED, attempt=1)
    transition(execution, Status.CANCELLING if status == Status.CANCELLED else Status.RUNNING)
    transition(execution, status, error="no" if status == Status.FAILURE else "")
    if status == Status.SUCCESS:
        from controlplane.models import Party

        for party, name in execution.documents["task_config"].get("outputs", {}).items():
            Dataset.objects.get_or_create(
                party=Party.objects.get(name=party),
                name=name,
                defaults={"columns": {"age": "int", "income": "float"}, "produced_by": execution.pk},
            )
    settle_down()
    return execution


# Running


def test_it_runs_nodes_in_the_order_of_their_data_and_branches_side_by_side(connection: Any) -> None:
    make_tasks()
    user = User.objects.create_user("u")
    run = PipelineRun.objects.submit(make_pipeline(psi="intersect", train="train", more="more", apart="again"), by=user)
    settle_down()
    assert states(run) == {"apart": "QUEUED", "psi": "QUEUED", "more": "WAITING", "train": "WAITING"}
    end(run, "psi")
    assert states(run) == {"apart": "QUEUED", "psi": "SUCCESS", "more": "QUEUED", "train": "QUEUED"}
    first = run.nodes.get(name="train").execution
    assert (first.name, first.task.name, first.submitted_by, first.node.name) == (
        "patients: train", "train", user, "train",
    )  # fmt: skip
    for node in ("train", "apart", "more"):
        assert run.status == PipelineStatus.RUNNING
        end(run, node)
    assert set(states(run).values()) == {"SUCCESS"}
    assert (run.status, run.ended_at is not None) == (PipelineStatus.SUCCESS, True)
    assert Execution.objects.count() == 4
