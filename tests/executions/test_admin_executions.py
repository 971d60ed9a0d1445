"""Executions in the admin, who may do what there, and the front page."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from controlplane.models import HEUConfig, Party
from executions.admin.execution_page import duration
from executions.models import Execution, ExecutionEvent, PartyCheck, PartyRun, Preflight, StateChange
from executions.states import RunStatus, Status
from tests.composed import admin_as, make_execution, make_task, messages_of, page_of

pytestmark = pytest.mark.django_db


# Executions


def test_it_lists_executions_in_a_fixed_number_of_queries(admin: Client, django_assert_num_queries: Any) -> None:
    for _ in range(3):
        make_execution()
    url = "/admin/executions/execution/"
    admin.get(url)
    # session, user, environment, the page's rows, saved filters; parties, users and labels to choose from: no COUNT
    with django_assert_num_queries(8):
        admin.get(url)
    for _ in range(10):
        make_execution()
    with django_assert_num_queries(8) as queries:
        page = admin.get(url)
    assert len(page.context["cl"].result_list) == 13
    assert not any("COUNT" in query["sql"] or '"documents"' in query["sql"] for query in queries.captured_queries)


def test_it_filters_and_finds_executions(admin: Client) -> None:
    done = make_execution(status=Status.SUCCESS)
    waiting = make_execution(name="nightly run")

    def found(query: dict[str, str]) -> list[Any]:
        return [row.pk for row in admin.get("/admin/executions/execution/", query).context["cl"].result_list]

    assert found({"status__exact": "SUCCESS"}) == [done.pk]
    assert found({"task_type": "psi"}) == [waiting.pk, done.pk]
    assert found({"task_type": "lr"}) == found({"task_type": "\x00"}) == []
    assert found({"q": "nightly"}) == [waiting.pk]
    assert found({"q": str(done.pk)}) == [done.pk]


def test_it_shows_what_went_wrong_first(admin: Client) -> None:
    now = timezone.now()
    execution = make_execution(
        status=Status.FAILURE,
        attempt=1,
        dispatched_at=now,
        ended_at=now,
        error="no column <uid>",
        error_type="ConfigError",
        error_party="alice",
        error_stage="sf_init",
    )
    for name, echo in (("alice", False), ("bob", True)):
        PartyRun.objects.create(
            execution=execution,
            party=Party.objects.get(name=name),
            attempt=1,
            job_id=name,
            status=RunStatus.FAILURE,
            error="it broke",
            error_type="NetworkError" if echo else "ConfigError",
            caused_by_peer=echo,
        )
    for sequence, stage in enumerate(("task_started", "sf_init")):
        ExecutionEvent.objects.create(
            execution=execution,
            party="alice",
            attempt=1,
            sequence=sequence + 1,
            status="RUNNING",
            stage=stage,
            timestamp=now + timedelta(seconds=sequence),
        )
    response = admin.get(page_of(execution))
    page = response.content.decode()
    assert page.index("ConfigError at alice, in stage sf_init") < page.index("NetworkError (caused by a peer)")
    assert "no column &lt;uid&gt;" in page
    assert "data-ended" in page
    assert "Stop this execution" not in page


def test_its_live_part_is_a_fragment_in_a_fixed_number_of_queries(
    admin: Client, django_assert_num_queries: Any
) -> None:
    submitter = User.objects.get(username="root")
    execution = make_execution(
        task=make_task(),
        status=Status.RUNNING,
        attempt=1,
        progress=0.634,
        submitted_by=submitter,
        started_at=timezone.now(),
    )
    party = Party.objects.get(name="alice")
    PartyRun.objects.create(execution=execution, party=party, attempt=1, job_id="a", status="RUNNING", progress=0.634)
    ExecutionEvent.objects.bulk_create(
        ExecutionEvent(
            execution=execution,
            party="alice",
            attempt=1,
            sequence=n,
            status="RUNNING",
            stage="task_execution",
            timestamp=timezone.now(),
            data={"computation_progress": n / 300},
        )
        for n in range(300)
    )
    StateChange.objects.create(execution=execution, from_status="QUEUED", to_status="RUNNING")
    PartyCheck.objects.create(preflight=Preflight.objects.create(execution=execution), party=party)
    url = f"{page_of(execution)}?fragment=1"
    admin.get(url)
    # session, user; the execution with task and submitter; what began it; runs, stages, changes, pre-flight
    # checks, events; the task's latest executions, by which the time that is left is estimated
    with django_assert_num_queries(11):
        response = admin.get(url)
    page = response.content.decode()
    assert response.headers["X-Fragment"] == "1"
    assert "<html" not in page
    assert "63 %" in page
    assert "data-ended" not in page
    assert page.count("computation_progress") == 200
    assert "the latest 200" in page


def test_its_history_and_events_have_the_badges_of_the_other_statuses(admin: Client) -> None:
    execution = make_execution(status=Status.RETRY, attempt=1)
    StateChange.objects.create(execution=execution, from_status="RUNNING", to_status="RETRY")
    for sequence, status in ((1, "RUNNING"), (2, "FAILURE"), (1_000_000, "RETRY")):
        ExecutionEvent.objects.create(
            execution=execution, party="alice", attempt=1, sequence=sequence, status=status, timestamp=timezone.now()
        )
    page = admin.get(page_of(execution)).content.decode()
    history, events = page[page.index(">History<") :].split("<summary>Events ")
    for part, badges in (
        (history, [("info", "running"), ("warning", "retry")]),
        (events, [("info", "running"), ("danger", "failure"), ("warning", "retry")]),
    ):
        for colour, label in badges:
            assert f'<span class="cp-badge cp-{colour}">{label}</span>' in part
    assert "1000000" not in events.replace(",", "")


@pytest.mark.parametrize(
    ("said", "shown"), [("{}-1", True), ("{}", False), (None, False), ([1], False), (1, False), ("x-1", False)]
)
def test_it_says_whose_devices_it_ran_on(admin: Client, said: Any, shown: bool) -> None:
    first = make_execution(status=Status.SUCCESS, attempt=1)
    execution = make_execution(status=Status.SUCCESS, attempt=1)
    party = Party.objects.get(name="alice")
    PartyRun.objects.create(execution=execution, party=party, attempt=1, job_id="a", status=RunStatus.SUCCESS)
    data = {"reused_session": said.format(first.pk) if isinstance(said, str) else said}
    ExecutionEvent.objects.create(
        execution=execution, party="alice", attempt=1, sequence=2, status="RUNNING", stage="sf_cluster_ready",
        timestamp=timezone.now(), data=data,
    )  # fmt: skip
    page = admin.get(page_of(execution)).content.decode()
    assert ("still up from" in page) == shown
    assert (f"/{first.pk}/change/" in page) == shown


def test_it_shows_results_as_a_table(admin: Client) -> None:
    counts = {"intersection_count": {"alice": 8123}}
    result = {**counts, "metrics": {"auc": 0.99418281}, "model": "x", "ok": True, "n": None}
    execution = make_execution(status=Status.SUCCESS, result=result)
    [block] = admin.get(page_of(execution)).context["found"].blocks
    assert sorted((name, text) for (name, *_), (text, *_) in block.cells) == [
        ("Intersection count, alice", "8,123"),
        ("Metrics, auc", "0.994183"),
        ("Model", "x"),
        ("N", "-"),
        ("Ok", "yes"),
    ]


@pytest.mark.parametrize("warnings", [["rows were taken as they are"], "rows were taken as they are"])
def test_it_shows_what_a_result_warns_of_by_itself(admin: Client, warnings: Any) -> None:
    execution = make_execution(status=Status.SUCCESS, result={"rows": 3, "warnings": warnings})
    response = admin.get(page_of(execution))
    assert '<p class="cp-note">rows were taken as they are</p>' in response.content.decode()
    [block] = response.context["found"].blocks
    assert list(block.rows) == [["Rows", 3]]


def test_it_cancels_by_post_alone(admin: Client) -> None:
    execution = make_execution()
    url = f"/admin/executions/execution/{execution.pk}/cancel/"
    assert admin.get(url).status_code == 200
    execution.refresh_from_db()
    assert execution.status == Status.QUEUED
    response = admin.post(url, follow=True)
    execution.refresh_from_db()
    assert execution.status == Status.CANCELLED
    assert "is being stopped" in messages_of(response)[0]
    Execution.objects.filter(pk=execution.pk).update(status=Status.SUCCESS)
    assert "already ended with SUCCESS" in messages_of(admin.post(url, follow=True))[0]


def test_it_runs_an_ended_execution_again_by_post_alone(admin: Client) -> None:
    execution = make_execution()
    execution.cancel()
    url = f"/admin/executions/execution/{execution.pk}/again/"
    assert b"Run again" in admin.get(page_of(execution)).content
    assert admin.get(url).status_code == 200
    assert Execution.objects.count() == 1
    response = admin.post(url)
    new = Execution.objects.exclude(pk=execution.pk).get()
    assert response.headers["Location"] == page_of(new)
    assert new.submitted_by is not None
    assert b"Run again" not in admin.get(page_of(new)).content


def rerun_fields(admin: Client, url: str, **changed: Any) -> dict[str, Any]:
    """What the browser posts when nothing but these fields is changed."""
    form = admin.get(url).context["form"]
    return {field.name: field.value() for field in form} | changed


def test_it_runs_an_execution_with_changes(admin: Client) -> None:
    execution = make_execution(priority=3)
    execution.cancel()
    url = f"/admin/executions/execution/{execution.pk}/rerun/"
    assert url in admin.get(page_of(execution)).content.decode()
    psi = json.loads(json.dumps(execution.documents["task_config"]))
    psi["outputs"] = {"alice": "other", "bob": "other"}
    fields = rerun_fields(admin, url, name="changed", task_config=json.dumps(psi))
    response = admin.post(url, fields)
    new = Execution.objects.exclude(pk=execution.pk).get()
    assert response.headers["Location"] == page_of(new)
    assert new.documents == execution.documents | {"task_config": psi}
    assert (new.name, new.priority, new.task) == ("changed", 3, None)
    unchanged = admin.post(url, rerun_fields(admin, url))
    last = Execution.objects.order_by("created_at").last()
    assert last is not None
    assert unchanged.headers["Location"] == page_of(last)
    assert (last.documents, last.task) == (execution.documents, execution.task)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("task_config", "{", "This is no JSON: Expecting property name"),
        ("task_config", "[]", "is not a JSON object"),
        ("task_config", '{"task_type": "psi"}', "data_sources: is required; add it"),
        ("spu_config", '{"nods": 1}', "nods: unknown key; did you mean &#x27;nodes&#x27;?"),
        ("spu_config", '"\\u0000"', "NUL"),
        ("priority", "much", "Enter a whole number."),
        ("run_limit_seconds", "0", "greater than or equal to 1"),
        ("network_retries", "4", "less than or equal to 3"),
    ],
)
def test_it_says_at_its_field_what_is_wrong_with_a_change(admin: Client, field: str, value: str, said: str) -> None:
    execution = make_execution()
    url = f"/admin/executions/execution/{execution.pk}/rerun/"
    changed = {"heu_config": '{"enable_heu": "perhaps"}', field: value}
    response = admin.post(url, rerun_fields(admin, url, **changed))
    assert response.status_code == 200
    # documents are checked together, once each of them is JSON
    expected = {field} if value in ("{", '"\\u0000"') else {field, "heu_config"}
    assert set(response.context["form"].errors) == expected
    assert said in response.content.decode()
    assert Execution.objects.count() == 1


@pytest.mark.parametrize("object_id", ["not-a-uuid", "00000000-0000-0000-0000-000000000000", "%00"])
@pytest.mark.parametrize("page", ["change", "cancel", "again", "rerun", "delete"])
def test_it_says_not_found_to_a_url_that_leads_nowhere(admin: Client, object_id: str, page: str) -> None:
    response = admin.get(f"/admin/executions/execution/{object_id}/{page}/")
    assert response.status_code in (302, 403, 404)


def test_executions_cannot_be_added_changed_or_deleted_even_by_a_superuser(admin: Client) -> None:
    execution = make_execution()
    base = "/admin/executions/execution"
    assert admin.get(f"{base}/add/").status_code == 403
    assert admin.post(f"{base}/{execution.pk}/delete/", {"post": "yes"}).status_code == 403
    admin.post(page_of(execution), {"status": "SUCCESS"})
    execution.refresh_from_db()
    assert execution.status == Status.QUEUED


# Who may


def test_a_viewer_sees_everything_and_can_do_nothing() -> None:
    task = make_task()
    HEUConfig.objects.create(name="heu")
    execution = make_execution()
    models = ("party", "dataset", "clusterconfig", "spuconfig", "heuconfig", "task")
    viewer = admin_as("viewer", "view_execution", *(f"view_{model}" for model in models))
    for model in models:
        url = f"/admin/controlplane/{model}/"
        assert viewer.get(url).status_code == 200
        row = apps.get_model("controlplane", model).objects.first()
        assert viewer.get(f"{url}{row.pk}/change/").status_code == 200
        assert viewer.get(f"{url}add/").status_code == 403
    task_page = viewer.get(f"/admin/controlplane/task/{task.pk}/change/").content.decode()
    assert "psi_params" in task_page
    assert "Run now" not in task_page
    assert 'name="_save"' not in task_page
    page = viewer.get(page_of(execution)).content.decode()
    assert "customers-psi" in page
    assert "Stop this execution" not in page
    assert viewer.post(f"/admin/executions/execution/{execution.pk}/cancel/").status_code == 403
    assert viewer.post(f"/admin/executions/execution/{execution.pk}/again/").status_code == 403
    assert viewer.get(f"/admin/executions/execution/{execution.pk}/rerun/").status_code == 403
    assert viewer.post(f"/admin/controlplane/task/{task.pk}/run/").status_code == 403
    assert viewer.get("/admin/").status_code == 200
    execution.refresh_from_db()
    assert execution.status == Status.QUEUED
    assert Execution.objects.count() == 1


def test_a_user_without_permissions_sees_an_empty_front_page() -> None:
    execution = make_execution(name="secret name")
    stranger = admin_as("stranger")
    front = stranger.get("/admin/")
    assert front.status_code == 200
    assert "secret name" not in front.content.decode()
    assert "steps" not in front.context
    assert stranger.get(page_of(execution)).status_code == 403
    assert stranger.get(f"{page_of(execution)}?fragment=1").status_code == 403


# Every page


def test_every_page_of_the_admin_opens(admin: Client) -> None:
    make_task()
    for model in ("party", "dataset", "clusterconfig", "spuconfig", "heuconfig", "task"):
        for page in ("", "add/"):
            assert admin.get(f"/admin/controlplane/{model}/{page}").status_code == 200, (model, page)
    for path in (
        "auth/user/",
        "auth/user/add/",
        "auth/group/",
        "auth/group/add/",
        "knox/authtoken/",
        "knox/authtoken/add/",
    ):
        assert admin.get(f"/admin/{path}").status_code == 200, path
    assert admin.get("/").headers["Location"] == "/admin/"


def test_it_says_durations_as_people_do() -> None:
    start = timezone.now()
    assert duration(None, None) == "-"
    assert duration(start, start + timedelta(seconds=2.314)) == "2.31 s"
    assert duration(start, start + timedelta(seconds=185)) == "3 min 05 s"
    assert duration(start, start + timedelta(hours=1, minutes=2)) == "1 h 02 min"
