"""Pipelines, their runs and schedules in the admin, and who may do what there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from controlplane.models import Dataset, Pipeline, Schedule, Task
from executions.models import Execution, PipelineRun
from executions.states import PipelineStatus, Status
from tests.composed import admin_as, make_chain, make_pipeline, make_task, messages_of
from tests.simulated import end_node, settle_pipelines

pytestmark = pytest.mark.django_db
PIPELINES, SCHEDULES = "/admin/controlplane/pipeline/", "/admin/controlplane/schedule/"
RUNS = "/admin/executions/pipelinerun/"


def body(rows: Any, name: str = "patients") -> dict[str, str]:
    return {"name": name, "nodes": rows if isinstance(rows, str) else json.dumps(rows)}


# Composing


def test_it_keeps_nodes_as_rows_and_draws_them(admin: Client) -> None:
    make_chain()
    rows = [
        {"name": "psi", "task": "intersect", "after": ""},
        {"name": "other", "task": "again", "after": ""},
        {"name": "lr", "task": "train", "after": "other, psi"},
    ]
    admin.post(f"{PIPELINES}add/", body(rows))
    pipeline = Pipeline.objects.get()
    assert pipeline.nodes == {
        "psi": {"task": "intersect"},
        "other": {"task": "again"},
        "lr": {"task": "train", "after": ["other", "psi"]},
    }
    page = admin.get(f"{PIPELINES}{pipeline.pk}/change/")
    shown = page.context["adminform"].form.initial["nodes"]
    assert [row["name"] for row in shown] == ["other", "psi", "lr"]
    assert shown[2] == rows[2]
    drawn = page.content.decode()
    assert [f'data-node="{name}"' in drawn for name in pipeline.nodes] == [True] * 3
    assert "lr reads common of alice and bob" in drawn
    again = admin.post(f"{PIPELINES}{pipeline.pk}/change/", body(shown), follow=True)
    assert again.status_code == 200
    pipeline.refresh_from_db()
    assert pipeline.version == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "Each node needs a name and a task"),
        ("{", "This is no JSON"),
        ("5", "Give a list of nodes"),
        ([5], "Give a list of nodes"),
        ([{"task": "intersect"}], "Each node needs a name and a task"),
        ([{"name": "psi", "task": "intersect"}] * 2, "psi: named twice; name each node once."),
        ([{"name": "psi"}], "psi.task: is empty; fill it in"),
        ([{"name": "p i", "task": "intersect"}], "p i: is not a valid name; should match"),
        ([{"name": "psi", "task": "x"}], "psi.task: there is no task of this name; known: again, "),
        ([{"name": "psi", "task": "intersect", "after": "x"}], "psi.after.0: there is no node of this name"),
        ([{"name": "psi", "task": {"a": 1}, "after": [5]}], "psi.task: has a wrong value; should be text"),
        ('[{"name": "psi", "task": "\\u0000"}]', "NUL"),
    ],
)
def test_it_says_what_is_wrong_and_saves_nothing(admin: Client, rows: Any, words: str) -> None:
    make_chain()
    response = admin.post(f"{PIPELINES}add/", body(rows))
    assert response.status_code == 200
    assert any(words in error for error in response.context["adminform"].form.errors["nodes"])
    assert not Pipeline.objects.exists()


def test_what_is_wrong_is_shown_in_its_row_and_the_rest_is_drawn(admin: Client) -> None:
    make_chain()
    rows = [{"name": "psi", "task": "intersect"}, {"name": "lr", "task": "train", "after": "nobody"}]
    response = admin.post(f"{PIPELINES}add/", body(rows))
    form = response.context["adminform"].form
    assert list(form.fields["nodes"].widget.error_map) == ["1§after"]
    assert {line.later for line in response.context["drawing"].lines} == {"lr"}


def test_an_old_version_comes_back_with_its_nodes(admin: Client) -> None:
    make_chain()
    pipeline = make_pipeline(psi="intersect", lr="train")
    pipeline.nodes = {"psi": {"task": "intersect"}}
    pipeline.save()
    page = admin.get(f"{PIPELINES}{pipeline.pk}/history/")
    assert "nodes lr" in page.content.decode()
    first = pipeline.history.earliest()
    old = f"{PIPELINES}{pipeline.pk}/history/{first.pk}/"
    admin.post(old, body(admin.get(old).context["adminform"].form.initial["nodes"]))
    pipeline.refresh_from_db()
    assert (set(pipeline.nodes), pipeline.version) == ({"psi", "lr"}, 3)


def test_a_task_shows_and_keeps_what_names_it(admin: Client) -> None:
    task = make_task("intersect")
    make_pipeline(psi="intersect")
    page = admin.get(f"/admin/controlplane/task/{task.pk}/change/").content.decode()
    assert f'<a href="{PIPELINES}{Pipeline.objects.get().pk}/change/">patients</a>' in page
    changed = {"name": "renamed", "cluster": task.cluster_id, "spu": task.spu_id, "task_type": "psi"}
    refused = admin.post(f"/admin/controlplane/task/{task.pk}/change/", changed)
    assert "Pipelines name it" in str(refused.context["adminform"].form.errors["name"])
    deleting = admin.get(f"/admin/controlplane/task/{task.pk}/delete/")
    assert "Pipeline patients" in deleting.content.decode()


def test_a_change_of_a_task_says_which_pipeline_it_breaks(admin: Client) -> None:
    make_chain()
    pipeline = make_pipeline(a="intersect", b="again")
    task = Task.objects.get(name="again")
    data = {"name": task.name, "cluster": task.cluster_id, "spu": task.spu_id, "task_type": "psi"}
    data |= {name: str(value) for name, value in task.options().items()}
    document = {**task.document, "outputs": {"alice": "common", "bob": "common_2"}}
    saved = admin.post(
        f"/admin/controlplane/task/{task.pk}/change/", {**data, "document": json.dumps(document)}, follow=True
    )
    assert messages_of(saved)[-1] == (
        f'Pipeline <a href="{PIPELINES}{pipeline.pk}/change/" class="underline">patients</a> is not valid now: '
        "b.task_config.outputs.alice: node a keeps common at alice, too; have one of the two tasks keep it under "
        "another name"
    )


# Running


def test_it_runs_after_asking_and_leads_to_the_run(admin: Client, connection: Any) -> None:
    make_chain()
    pipeline = make_pipeline(psi="intersect", lr="train")
    url = f"{PIPELINES}{pipeline.pk}/run/"
    asked = admin.get(url)
    assert asked.context["facts"] == [("psi", "intersect"), ("lr", "train, after psi")]
    assert not PipelineRun.objects.exists()
    run_page = admin.post(url, follow=True)
    run = PipelineRun.objects.get()
    assert run_page.redirect_chain[-1][0] == f"{RUNS}{run.pk}/change/"
    settle_pipelines()
    end_node(run, "psi", Status.FAILURE)
    page = admin.get(f"{RUNS}{run.pk}/change/")
    execution = run.nodes.get(name="psi").execution
    assert execution
    assert f"/admin/executions/execution/{execution.pk}/change/" in page.content.decode()
    boxes = page.context["drawing"].boxes
    assert [(box.text, box.colour) for box in boxes.values()] == [("failure", "danger"), ("blocked", "default")]
    retried = admin.post(f"{RUNS}{run.pk}/retry/", {"node": "psi"}, follow=True)
    assert messages_of(retried) == ["psi runs again; what succeeded is not repeated."]
    settle_pipelines()
    shown = admin.get(f"{RUNS}{run.pk}/change/?fragment=1").content.decode()
    assert f'before: <a href="/admin/executions/execution/{execution.pk}/change/"' in shown
    assert (
        f"{RUNS}{run.pk}/change/" in admin.get(f"/admin/executions/execution/{execution.pk}/change/").content.decode()
    )
    stopped = admin.post(f"{RUNS}{run.pk}/cancel/", follow=True)
    assert messages_of(stopped) == [f"{run} is being stopped."]
    settle_pipelines()
    run.refresh_from_db()
    assert run.status == PipelineStatus.CANCELLED
    PipelineRun.objects.update(status="SUCCESS")
    assert "nothing to retry" in messages_of(admin.post(f"{RUNS}{run.pk}/retry/", follow=True))[0]
    assert "nothing to cancel" in messages_of(admin.post(f"{RUNS}{run.pk}/cancel/", follow=True))[0]


def test_it_says_why_one_cannot_run_now(admin: Client) -> None:
    make_chain()
    pipeline = make_pipeline(psi="intersect")
    Dataset.objects.filter(name="clients").update(columns={"x": "str"})
    for method in (admin.get, admin.post):
        messages = messages_of(method(f"{PIPELINES}{pipeline.pk}/run/", follow=True))
        assert [m.partition(":")[0] for m in messages] == [
            "nodes.psi.task_config.algorithm_params.psi_params.input_keys.bob.0"
        ]
    assert not PipelineRun.objects.exists()


def test_pages_take_no_query_per_row(admin: Client, django_assert_num_queries: Any, connection: Any) -> None:
    make_chain()
    # session, user, environment, saved filters; rows counted twice, their nodes or latest runs; parties to choose from
    pages = {PIPELINES: 9, RUNS: 8, SCHEDULES: 8}
    for number in range(2):
        for index in range(3):
            pipeline = make_pipeline(f"p{number}{index}", psi="intersect", lr="train")
            Schedule.objects.create(name=f"s{number}{index}", cron="1 1 * * *", pipeline=pipeline)
            PipelineRun.objects.submit(pipeline)
        settle_pipelines()
        for url, queries in pages.items():
            admin.get(url)
            with django_assert_num_queries(queries):
                admin.get(url)


def test_who_may_do_what(connection: Any) -> None:
    make_chain()
    pipeline = make_pipeline(psi="intersect")
    run = PipelineRun.objects.submit(pipeline)
    viewer = admin_as("viewer", "view_execution", "view_pipeline")
    runner = admin_as("runner", "add_execution", "view_pipeline")
    assert viewer.get(f"{RUNS}{run.pk}/change/").status_code == 200
    assert viewer.get(RUNS).status_code == 200
    page = viewer.get(f"{PIPELINES}{pipeline.pk}/change/")
    assert 'data-node="psi"' in page.content.decode()
    for action in ("retry", "cancel"):
        assert viewer.post(f"{RUNS}{run.pk}/{action}/").status_code == 403
    assert viewer.post(f"{PIPELINES}{pipeline.pk}/run/").status_code == 403
    assert runner.get(f"{RUNS}{run.pk}/change/").status_code == 403
    submitted = runner.post(f"{PIPELINES}{pipeline.pk}/run/", follow=True)
    assert messages_of(submitted)[0].endswith("was submitted.")
    assert PipelineRun.objects.count() == 2
    for path in ("not-a-uuid", "00000000-0000-0000-0000-000000000000"):
        assert viewer.get(f"{RUNS}{path}/change/").status_code == 404


# Schedules


def test_it_schedules_in_the_name_of_who_saved_it_and_shows_when_and_what(admin: Client, connection: Any) -> None:
    task = make_task("intersect")
    fields = {"name": "nightly", "cron": "30 2 * * MON-FRI", "time_zone": "Europe/Berlin", "task": task.pk}
    admin.post(f"{SCHEDULES}add/", {**fields, "enabled": "on"})
    schedule = Schedule.objects.get()
    assert schedule.owner
    assert schedule.owner.username == "root"
    Schedule.objects.update(next_run_at="2026-01-01T00:00Z")
    settle_pipelines()
    page = admin.get(f"{SCHEDULES}{schedule.pk}/change/").content.decode()
    assert "At 02:30 on Monday through Friday, Europe/Berlin time: " in page
    assert f"/admin/executions/execution/{Execution.objects.get().pk}/change/" in page
    assert ">2026-01-01 00:00<" in page
    wrong = admin.post(f"{SCHEDULES}add/", {**fields, "name": "x", "cron": "30 25 * * *"})
    assert wrong.context["adminform"].form.errors == {"cron": ["The hour is wrong; it may be 0 to 23."]}
    nothing = admin.post(f"{SCHEDULES}add/", {**fields, "name": "x", "task": ""})
    assert "Choose either a task or a pipeline." in str(nothing.context["adminform"].form.errors)


def test_a_node_says_what_it_found_where_it_failed_and_that_it_never_began(admin: Client, connection: Any) -> None:
    make_chain()
    run = PipelineRun.objects.submit(make_pipeline(psi="intersect", lr="train"))

    def shown() -> dict[str, Any]:
        return {node["name"]: node for node in admin.get(f"{RUNS}{run.pk}/change/").context["nodes"]}

    settle_pipelines()
    end_node(run, "psi", Status.SUCCESS)
    settle_pipelines()
    counts = {"original_count": {"alice": 5, "bob": 6}, "intersection_count": {"alice": 3, "bob": 3}}
    Execution.objects.filter(current_node__name="psi").update(result=counts)
    assert shown()["psi"]["answer"] == "", "results are read once, at the end"
    end_node(run, "lr", Status.FAILURE)
    settle_pipelines()
    Execution.objects.filter(current_node__name="lr").update(error="the disk is full", error_party="bob")
    assert shown()["psi"]["answer"] == "3 rows in common, of 5 at alice and 6 at bob."
    assert shown()["lr"]["why"] == "bob: the disk is full"

    run = PipelineRun.objects.submit(make_pipeline("other", psi="intersect", lr="train"))
    settle_pipelines()
    run.cancel()
    settle_pipelines()
    assert {name: node["status"] for name, node in shown().items()} == {"psi": "cancelled", "lr": "not started"}
