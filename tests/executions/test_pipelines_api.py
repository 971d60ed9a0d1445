"""Pipelines and schedules through the REST API, as a service uses it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from controlplane.models import Dataset, Pipeline, Schedule, Task
from executions.models import Execution, PipelineRun
from executions.states import Status
from tests.composed import api_as, errors_of, make_chain, make_pipeline, make_task
from tests.simulated import end_node, settle_pipelines

pytestmark = pytest.mark.django_db
API = "/api/v1"


def post(api: APIClient, path: str, body: Any, status: int = 201) -> Any:
    response = api.post(f"{API}/{path}/", body, format="json")
    assert response.status_code == status, response.content
    return response.json()


def test_it_composes_one_and_tells_its_steps(api: APIClient) -> None:
    make_chain()
    nodes: dict[str, Any] = {"lr": {"task": "train"}, "psi": {"task": "intersect"}}
    made = post(api, "pipelines", {"name": "patients", "nodes": nodes})
    assert made["nodes"] == nodes
    assert made["steps"] == [
        {"name": "psi", "task": "intersect", "waits_for": {}, "earlier": []},
        {"name": "lr", "task": "train", "waits_for": {"psi": "reads common of alice and bob"}, "earlier": []},
    ]
    url = f"{API}/pipelines/{made['id']}/"
    nodes["more"] = {"task": "more", "after": ["lr"]}
    assert api.patch(url, {"nodes": nodes}, format="json").json()["version"] == 2
    assert api.put(url, api.get(url).json(), format="json").json()["version"] == 2
    assert api.delete(url).status_code == 204


def test_it_lists_them_in_one_query(api: APIClient, django_assert_num_queries: Any) -> None:
    make_chain()
    for number in range(3):
        make_pipeline(f"p{number}", psi="intersect")
    with django_assert_num_queries(1):
        assert len(api.get(f"{API}/pipelines/").json()["results"]) == 3


@pytest.mark.parametrize(
    ("nodes", "path", "words"),
    [
        ({}, "nodes", "is empty"),
        ("psi", "nodes", "should be an object"),
        (None, "nodes", "may not be null"),
        ({"psi": {"task": "intersct"}}, "nodes.psi.task", "did you mean 'intersect'?"),
        ({"psi": {"task": "intersect", "after": ["x"]}}, "nodes.psi.after.0", "there is no node of this name"),
        ({"psi": {"task": "intersect\x00"}}, "nodes.psi.task", "NUL"),
    ],
)
def test_it_says_what_is_wrong_with_its_path(api: APIClient, nodes: Any, path: str, words: str) -> None:
    make_task("intersect")
    response = api.post(f"{API}/pipelines/", {"name": "p", "nodes": nodes}, format="json")
    assert response.status_code == 400
    assert words in errors_of(response)[path]


def test_it_runs_one_and_tells_each_nodes_state(api: APIClient, connection: Any) -> None:
    make_chain()
    make_pipeline(psi="intersect", train="train")
    response = api.post(f"{API}/pipeline-runs/", {"pipeline": "patients"}, format="json")
    assert response.status_code == 201
    body = response.json()
    assert response.headers["Location"] == body["url"]
    assert (body["status"], body["submitted_by"], body["pipeline"]) == ("RUNNING", "root", "patients")
    run = PipelineRun.objects.get()
    settle_pipelines()
    failed = end_node(run, "psi", Status.FAILURE)
    body = api.get(body["url"]).json()
    assert body["status"] == "FAILURE"
    psi, train = body["nodes"]
    assert (psi["state"], psi["why"], psi["execution"]) == ("FAILURE", "no", str(failed.pk))
    assert psi["execution_url"].endswith(f"{API}/executions/{failed.pk}/")
    assert (train["state"], train["execution"], train["execution_url"]) == ("BLOCKED", None, None)
    execution = api.get(psi["execution_url"]).json()
    assert (execution["pipeline_run"], execution["node"]) == (str(run.pk), "psi")
    again = api.post(body["retry_url"], {"nodes": ["psi"]}, format="json")
    assert (again.status_code, again.json()["status"]) == (202, "RUNNING")
    settle_pipelines()
    assert api.get(body["url"]).json()["nodes"][0]["earlier"] == [str(failed.pk)]


def test_it_shows_a_run_in_as_many_queries_however_large(api: APIClient, django_assert_num_queries: Any) -> None:
    make_chain()
    for nodes in ({"psi": "intersect"}, {"psi": "intersect", "a": "train", "b": "more", "c": "again"}):
        Pipeline.objects.all().delete()
        run = PipelineRun.objects.submit(make_pipeline(**nodes), by=User.objects.get())
        settle_pipelines()
        with django_assert_num_queries(5):  # run with pipeline and user, changes, users, nodes, their executions
            assert len(api.get(f"{API}/pipeline-runs/{run.pk}/").json()["nodes"]) == len(nodes)
    with django_assert_num_queries(1):
        assert len(api.get(f"{API}/pipeline-runs/").json()["results"]) == 2


def test_it_refuses_in_the_same_words_what_is_not_valid_now(api: APIClient) -> None:
    make_chain()
    pipeline = make_pipeline(psi="intersect")
    Dataset.objects.filter(name="clients").update(columns={"x": "str"})
    refused = api.post(f"{API}/pipeline-runs/", {"pipeline": pipeline.pk}, format="json")
    assert refused.status_code == 400
    path = "nodes.psi.task_config.algorithm_params.psi_params.input_keys.bob.0"
    assert "bob's dataset clients has no column 'user_id'" in errors_of(refused)[path]
    looked = post(api, "pipeline-runs/dry-run", {"pipeline": pipeline.name}, 200)
    assert [problem["path"] for problem in looked["problems"]] == [path]
    Dataset.objects.filter(name="clients").update(columns={"user_id": "str"})
    looked = post(api, "pipeline-runs/dry-run", {"pipeline": pipeline.name}, 200)
    assert (looked["valid"], [step["name"] for step in looked["steps"]]) == (True, ["psi"])
    assert not PipelineRun.objects.exists()


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ({}, "pipeline", "required"),
        ({"pipeline": "patient"}, "pipeline", "did you mean 'patients'?"),
        ({"pipeline": ""}, "pipeline", "give a name or an id"),
        ({"pipline": "patients"}, "pipline", "did you mean 'pipeline'?"),
    ],
)
def test_it_says_what_is_wrong_with_a_submission(api: APIClient, body: Any, path: str, words: str) -> None:
    make_task("intersect")
    make_pipeline(psi="intersect")
    response = api.post(f"{API}/pipeline-runs/", body, format="json")
    assert response.status_code == 400
    assert words in errors_of(response)[path]


def test_it_cancels_and_says_what_does_not_go(api: APIClient, connection: Any) -> None:
    make_chain()
    run = PipelineRun.objects.submit(make_pipeline(psi="intersect"))
    settle_pipelines()
    url = f"pipeline-runs/{run.pk}"
    wrong = api.post(f"{API}/{url}/retry/", {"nodes": ["psy"]}, format="json")
    assert errors_of(wrong) == {"nodes.0": "there is no node of this name; did you mean 'psi'?"}
    assert api.post(f"{API}/{url}/retry/", {"nodes": "psi"}, format="json").status_code == 400
    nothing = post(api, f"{url}/retry", {}, 409)
    assert nothing["errors"][0]["detail"] == "No node has failed; there is nothing to retry."
    assert post(api, f"{url}/cancel", {}, 202)["status"] == "CANCELLING"
    settle_pipelines()
    assert post(api, f"{url}/cancel", {}, 202)["status"] == "CANCELLED"
    PipelineRun.objects.update(status="SUCCESS")
    assert "already ended with SUCCESS" in post(api, f"{url}/cancel", {}, 409)["errors"][0]["detail"]
    for missing in ("not-a-uuid", "00000000-0000-0000-0000-000000000000"):
        assert api.get(f"{API}/pipeline-runs/{missing}/").status_code == 404


def test_who_may_run_tasks_may_run_pipelines(connection: Any) -> None:
    make_chain()
    run = PipelineRun.objects.submit(make_pipeline(psi="intersect"))
    urls = f"{API}/pipeline-runs/", f"{API}/pipeline-runs/{run.pk}/cancel/"
    body = {"pipeline": "patients"}
    viewer, runner = api_as("viewer", "view_execution"), api_as("runner", "add_execution", "view_pipeline")
    stopper = api_as("stopper", "change_execution")
    assert [viewer.get(urls[0]).status_code, runner.get(urls[0]).status_code] == [200, 403]
    assert [c.post(urls[0], body, format="json").status_code for c in (viewer, runner)] == [403, 201]
    assert [c.post(urls[1]).status_code for c in (viewer, runner, stopper)] == [403, 403, 202]
    assert APIClient().get(urls[0]).status_code == 401


def test_it_schedules_and_tells_what_came_of_it(api: APIClient, connection: Any) -> None:
    task = make_task("intersect")
    body = {"name": "nightly", "cron": "30 2 * * *", "time_zone": "Europe/Berlin", "task": "intersect"}
    made = post(api, "schedules", body)
    assert (made["owner"], made["in_words"]) == ("root", "At 02:30 every day, Europe/Berlin time")
    assert len(made["next_times"]) == 5
    assert api.get(f"{API}/schedules/?enabled=true").json()["results"][0]["next_run_at"] == made["next_run_at"]
    Schedule.objects.update(next_run_at=timezone.now())
    settle_pipelines()
    Schedule.objects.update(next_run_at=timezone.now())
    settle_pipelines()
    skipped, fired = api.get(f"{API}/schedules/{made['id']}/ticks/").json()["results"]
    assert (fired["execution"], fired["skipped"]) == (str(Execution.objects.get().pk), "")
    assert skipped["skipped"].endswith("is still QUEUED")
    held = api.delete(f"{API}/tasks/{task.pk}/")
    assert held.status_code == 409
    assert "schedule nightly" in held.json()["errors"][0]["detail"]


def test_a_pipeline_holds_its_tasks(api: APIClient) -> None:
    task = make_task("intersect")
    make_pipeline(psi="intersect")
    held = api.delete(f"{API}/tasks/{task.pk}/")
    assert (held.status_code, held.json()["errors"][0]["detail"]) == (
        409, "It is used by pipeline patients: delete or change these first.",
    )  # fmt: skip
    renamed = api.patch(f"{API}/tasks/{task.pk}/", {"name": "other"}, format="json")
    assert errors_of(renamed) == {"name": "Pipelines name it, so it keeps its name: patients."}
    assert Task.objects.get().name == "intersect"


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"cron": "61 * * * *"}, "cron", "The minute is wrong; it may be 0 to 59."),
        ({"cron": 5}, "cron", "Give five fields"),
        ({"time_zone": "Mars"}, "time_zone", "There is no such time zone"),
        ({"task": None}, "non_field_errors", "either a task or a pipeline"),
        ({"pipeline": "nothing"}, "pipeline", "there is none of this name or id"),
        ({"crom": "x"}, "crom", "did you mean 'cron'?"),
    ],
)
def test_it_says_what_is_wrong_with_a_schedule(api: APIClient, change: Any, path: str, words: str) -> None:
    make_task("intersect")
    body = {"name": "nightly", "cron": "30 2 * * *", "task": "intersect"} | change
    response = api.post(f"{API}/schedules/", body, format="json")
    assert response.status_code == 400, response.content
    assert words in errors_of(response)[path]
