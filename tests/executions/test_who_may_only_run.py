"""Who may run or cancel things, and may not look at them, learns nothing by it."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis
from rest_framework.test import APIClient

from controlplane.models import Party, Task
from executions.models import Execution, PipelineRun
from executions.states import Status
from tests.composed import api_as, documents, make_chain, make_execution, make_pipeline, make_task

API = "/api/v1"
RUN, VIEW, CANCEL = "add_execution", "view_execution", "change_execution"


@pytest.fixture
def runner(parties: dict[str, Party], connection: Redis) -> APIClient:
    """May submit executions, and nothing else."""
    return api_as("runner", RUN)


def post(client: APIClient, path: str, body: Any = None) -> Any:
    # The id of the request stands in each problem, and is to be no difference
    return client.post(f"{API}/{path}", body, format="json", HTTP_X_REQUEST_ID="the-same")


@pytest.mark.parametrize("path", ["executions/dry-run/", "executions/", "preflights/"])
def test_a_task_is_there_only_for_who_may_view_tasks(runner: APIClient, path: str) -> None:
    task = make_task()
    answers = [post(runner, path, {"task": name}) for name in (task.name, "no such task", task.pk, 4711)]
    assert {answer.status_code for answer in answers} == {400}
    assert len({answer.content for answer in answers}) == 1, "the answer tells which tasks there are"
    assert task.name not in answers[1].content.decode()
    assert not Execution.objects.exists()
    seeing = api_as("operator", RUN, VIEW, "view_task")
    assert post(seeing, "executions/", {"task": task.name}).status_code == 201


@pytest.mark.parametrize("path", ["pipeline-runs/dry-run/", "pipeline-runs/"])
def test_a_pipeline_is_there_only_for_who_may_view_pipelines(connection: Redis, db: None, path: str) -> None:
    make_chain()
    make_pipeline(psi="intersect")
    answers = [post(api_as(f"runner-{i}", RUN), path, {"pipeline": name}) for i, name in enumerate(("patients", "no"))]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].content == answers[1].content


def test_a_dry_run_shows_documents_to_who_may_view_executions(runner: APIClient) -> None:
    found = post(runner, "executions/dry-run/", documents()).json()
    assert (found["valid"], found["documents"]) == (True, {})
    seeing = post(api_as("operator", RUN, VIEW), "executions/dry-run/", documents()).json()
    assert set(seeing["documents"]) == {"alice", "bob"}


def test_what_is_submitted_and_cancelled_is_told_in_brief(runner: APIClient) -> None:
    made = post(runner, "executions/", documents()).json()
    assert set(made) == {"id", "url", "status"}
    hidden = make_execution()
    stopped = post(api_as("stopper", CANCEL), f"executions/{hidden.pk}/cancel/")
    assert (stopped.status_code, set(stopped.json())) == (202, {"id", "url", "status"})
    checked = post(runner, "preflights/", documents())
    assert (checked.status_code, set(checked.json())) == (201, {"id", "url", "requested_at"})


def test_a_retry_tells_nothing_of_the_documents(runner: APIClient) -> None:
    hidden = make_execution(status=Status.FAILURE, error="alice's column income is empty")
    again = post(runner, f"executions/{hidden.pk}/retry/", {})
    assert (again.status_code, set(again.json())) == (201, {"id", "url", "status"})
    changed = post(runner, f"executions/{hidden.pk}/retry/", {"heu_config": {"enable_heu": False}})
    assert changed.status_code == 403, "a masked secret would go where the caller says"
    Party.objects.get(name="bob").datasets.update(name="other")
    refused = post(runner, f"executions/{hidden.pk}/retry/", {})
    assert refused.status_code == 409
    assert "clients" not in refused.content.decode()


def test_a_pipeline_run_is_told_in_brief(connection: Redis, db: None) -> None:
    make_chain()
    run = PipelineRun.objects.submit(make_pipeline(first="intersect"))
    assert set(post(api_as("stopper", CANCEL), f"pipeline-runs/{run.pk}/cancel/").json()) == {"id", "url", "status"}
    wrong = post(api_as("runner", RUN), f"pipeline-runs/{run.pk}/retry/", {"nodes": ["frist"]})
    assert wrong.status_code == 400
    assert "first" not in wrong.content.decode().replace("frist", "")


def test_the_names_of_tasks_cannot_be_found_by_a_filter(runner: APIClient) -> None:
    make_task()
    seeing = api_as("viewer", VIEW)
    answers = [seeing.get(f"{API}/executions/?task={name}").json() for name in (Task.objects.get().name, "zzz")]
    assert answers[0] == answers[1]
