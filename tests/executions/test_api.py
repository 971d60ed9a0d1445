"""Executions through the REST API, as a service uses it, and bodies that nobody can mean."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.utils import timezone
from rest_framework.test import APIClient

from controlplane.models import Dataset, Party
from executions.models import Execution, ExecutionEvent, PartyCheck, PartyRun, Preflight, StateChange
from executions.states import RunStatus, Status
from tests.composed import PSI, documents, errors_of, make_execution, make_task

pytestmark = pytest.mark.django_db
API = "/api/v1"


# Submitting


def test_it_submits_a_task_by_name_and_points_at_the_execution(api: APIClient) -> None:
    task = make_task(priority=7, run_limit_seconds=60)
    response = api.post(f"{API}/executions/", {"task": task.name}, format="json")
    assert response.status_code == 201
    execution = Execution.objects.get()
    body = response.json()
    assert response.headers["Location"] == body["url"] == f"http://testserver{API}/executions/{execution.pk}/"
    assert (body["task"], body["status"], body["task_type"], body["parties"]) == (
        task.name,
        "QUEUED",
        "psi",
        ["alice", "bob"],
    )
    assert (execution.priority, execution.run_limit_seconds) == (7, 60)
    assert execution.submitted_by is not None
    assert execution.submitted_by.username == "root"
    assert body["documents"]["task_config"] == PSI
    assert api.get(response.headers["Location"]).json() == body


def test_it_submits_a_task_by_id_with_its_own_options(api: APIClient) -> None:
    task = make_task()
    body = {"task": task.pk, "name": "by hand", "priority": -3, "run_limit_seconds": 9}
    assert api.post(f"{API}/executions/", body, format="json").status_code == 201
    execution = Execution.objects.get()
    assert (execution.name, execution.priority, execution.run_limit_seconds) == ("by hand", -3, 9)
    assert execution.task == task


def test_it_submits_documents(api: APIClient, parties: dict[str, Party]) -> None:
    response = api.post(f"{API}/executions/", {**documents(), "name": "ad hoc"}, format="json")
    assert response.status_code == 201
    execution = Execution.objects.get()
    assert execution.documents == documents()
    assert (execution.name, execution.task, execution.priority) == ("ad hoc", None, 0)


def test_it_says_that_a_tasks_name_is_empty(api: APIClient) -> None:
    assert errors_of(api.post(f"{API}/executions/", {"task": ""}, format="json")) == {
        "task": "is empty; give a name or an id"
    }


def test_it_refuses_both_a_task_and_documents_and_neither(api: APIClient) -> None:
    task = make_task()
    both = api.post(f"{API}/executions/", {"task": task.name, **documents()}, format="json")
    assert both.status_code == 400
    assert "not both" in errors_of(both)["task"]
    neither = api.post(f"{API}/executions/", {"name": "x"}, format="json")
    assert neither.status_code == 400
    assert "give a task by name or id, or the documents" in errors_of(neither)["non_field_errors"]
    assert not Execution.objects.exists()


def test_it_reports_every_problem_of_documents_with_its_path_and_remedy(
    api: APIClient, parties: dict[str, Party]
) -> None:
    body = documents()
    body["spu_config"] = {"runtime_config": {"protocol": "ABY3"}, "runtime_conf": {}}
    body["task_config"] = {**PSI, "data_sources": {"alice": "custmers", "bob": "clients"}}
    response = api.post(f"{API}/executions/", body, format="json")
    assert response.status_code == 400
    assert errors_of(response) == {
        "spu_config.runtime_conf": "unknown key; did you mean 'runtime_config'?",
        "spu_config.runtime_config.protocol": "ABY3 needs exactly 3 parties, the cluster has 2; use SEMI2K or CHEETAH",
        "task_config.data_sources.alice": "alice has no dataset 'custmers' registered; did you mean 'customers'?",
    }


def test_it_refuses_a_task_that_has_become_invalid_in_the_same_words(api: APIClient) -> None:
    task = make_task()
    Dataset.objects.filter(name="clients").update(columns={"client_id": "str"})
    by_task = api.post(f"{API}/executions/", {"task": task.name}, format="json")
    by_documents = api.post(f"{API}/executions/", task.documents(), format="json")
    assert by_task.status_code == by_documents.status_code == 400
    path = "task_config.algorithm_params.psi_params.input_keys.bob.0"
    assert errors_of(by_task)[path].startswith("bob's dataset clients has no column 'user_id'; ")
    assert errors_of(by_task) == errors_of(by_documents)


def test_it_names_the_closest_task_where_there_is_none(api: APIClient) -> None:
    make_task()
    response = api.post(f"{API}/executions/", {"task": "customer-psi"}, format="json")
    assert errors_of(response) == {"task": "there is none of this name or id; did you mean 'customers-psi'?"}


# Bodies that cannot be meant


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        (b'{"task": "a\\u0000b"}', "task", "NUL"),
        (b'{"spu_config": {"a": ["x\\u0000"]}}', "spu_config.a.0", "NUL"),
        (b'{"spu_config": {"\\u0000": 1}}', "spu_config", "has a key that holds a NUL"),
        (b'{"name": "\\ud800"}', "name", "surrogate"),
        (b'{"task": 1e999}', "task", "finite"),
        (b'{"task": 99999999999999999999}', "task", "too large"),
        (b'{"spu_config": ' + b'{"a":' * 40 + b"1" + b"}" * 41, "spu_config" + ".a" * 31, "nested"),
        (b'{"tsk": "x"}', "tsk", "did you mean 'task'?"),
        (b'{"task": null}', "task", "may not be null"),
        (b'{"task": true}', "task", "give a name or an id"),
        (b'{"task": {"a": 1}}', "task", "give a name or an id"),
        (b'{"task": "x", "priority": 40000}', "priority", "32767"),
        (b"[]", "non_field_errors", "dictionary"),
        (b"null", "non_field_errors", "No data provided"),
    ],
)
def test_it_refuses_with_a_path(api: APIClient, body: bytes, path: str, words: str) -> None:
    response = api.post(f"{API}/executions/", body, content_type="application/json")
    assert response.status_code == 400
    assert words in errors_of(response)[path]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
@pytest.mark.parametrize("path", ["executions", "parties", "datasets", "spu-configs", "tasks"])
def test_it_refuses_what_is_no_json(api: APIClient, path: str, body: bytes) -> None:
    assert api.post(f"{API}/{path}/", body, content_type="application/json").status_code == 400


def test_it_refuses_a_body_that_is_too_large(api: APIClient) -> None:
    response = api.post(f"{API}/parties/", b'"' + b"x" * 3_000_000 + b'"', content_type="application/json")
    assert response.status_code == 413
    assert response.json()["errors"][0]["code"] == "too_large"


@pytest.mark.parametrize(
    "path",
    [
        "executions/not-a-uuid/",
        "executions/00000000-0000-0000-0000-000000000000/",
        "executions/?cursor=cD1mb28=",  # a position that is no date
        "tasks/abc/",
        "tasks/99999999999999999999999/",
        "parties/%00/",
        "parties/?cursor=nonsense",
    ],
)
def test_it_says_not_found_to_a_url_that_leads_nowhere(api: APIClient, path: str) -> None:
    assert api.get(f"{API}/{path}").status_code == 404


@pytest.mark.parametrize("query", ["status=x", "created_after=x", "task=%00"])
def test_it_refuses_a_filter_that_makes_no_sense(api: APIClient, query: str) -> None:
    assert api.get(f"{API}/executions/?{query}").status_code == 400


# Looking


def test_it_shows_all_of_an_execution_in_five_queries(api: APIClient, django_assert_num_queries: Any) -> None:
    now = timezone.now()
    execution = make_execution(
        status=Status.FAILURE,
        attempt=2,
        dispatched_at=now,
        started_at=now,
        created_at=now,
        ended_at=now + timedelta(seconds=3),
        error="the disk is full",
        error_type="ResourceError",
        error_party="bob",
        error_stage="sf_init",
        submitted_by=User.objects.get(username="root"),
    )
    preflight = Preflight.objects.create(execution=execution)
    for party in Party.objects.all():
        PartyCheck.objects.create(preflight=preflight, party=party, ports=[1, 2])
    for attempt in (1, 2):
        for name, party in ((p.name, p) for p in Party.objects.all()):
            PartyRun.objects.create(
                execution=execution,
                party=party,
                attempt=attempt,
                job_id=f"{name}-{attempt}",
                status=RunStatus.FAILURE,
                devices=["spu"],
                worker=f"{name}-host-1",
                error="the disk is full",
                error_type="ResourceError",
            )
    StateChange.objects.create(execution=execution, from_status="QUEUED", to_status="FAILURE", why="bob failed")
    with django_assert_num_queries(5):  # execution with task and user, runs with parties, changes with users
        body = api.get(f"{API}/executions/{execution.pk}/").json()
    assert body["error"] == {
        "type": "ResourceError",
        "party": "bob",
        "stage": "sf_init",
        "message": "the disk is full",
    }
    assert [(run["party"], run["attempt"], run["devices"]) for run in body["runs"]] == [
        ("alice", 2, ["spu"]),
        ("bob", 2, ["spu"]),
    ]
    assert [(change["from_status"], change["to_status"], change["why"]) for change in body["changes"]] == [
        ("", "QUEUED", "submitted"),
        ("QUEUED", "FAILURE", "bob failed"),
    ]
    assert body["seconds"] == 3.0
    assert body["events_url"].endswith(f"/executions/{execution.pk}/events/")


def test_it_has_no_error_where_none_happened(api: APIClient) -> None:
    assert api.get(f"{API}/executions/{make_execution().pk}/").json()["error"] is None


def test_it_lists_newest_first_without_documents_in_one_query(api: APIClient, django_assert_num_queries: Any) -> None:
    now = timezone.now()
    made = [make_execution(created_at=now - timedelta(minutes=age)) for age in (2, 0, 1)]
    with django_assert_num_queries(1):
        body = api.get(f"{API}/executions/").json()
    assert [row["id"] for row in body["results"]] == [str(made[i].pk) for i in (1, 2, 0)]
    assert not {"documents", "events", "result", "runs"} & set(body["results"][0])
    assert body["results"][0]["task"] == "customers-psi"


def test_it_pages_by_cursor_through_rows_of_one_moment(api: APIClient) -> None:
    now = timezone.now()
    made = {str(make_execution(created_at=now).pk) for _ in range(7)}
    seen: list[str] = []
    url = f"{API}/executions/?page_size=3"
    while url:
        page = api.get(url).json()
        seen += [row["id"] for row in page["results"]]
        url = page["next"]
    assert len(seen) == 7
    assert set(seen) == made


def test_it_filters_executions(api: APIClient) -> None:
    now = timezone.now()
    other = make_task("another")
    old = make_execution(make_task(), created_at=now - timedelta(days=2), status=Status.SUCCESS)
    new = make_execution(other)

    def found(query: dict[str, Any]) -> list[str]:
        response = api.get(f"{API}/executions/", query)
        assert response.status_code == 200, response.content
        return [row["id"] for row in response.json()["results"]]

    assert found({"status": "SUCCESS"}) == [str(old.pk)]
    assert found({"status": ["SUCCESS", "QUEUED"]}) == [str(new.pk), str(old.pk)]
    assert found({"task": "another"}) == [str(new.pk)]
    assert found({"task_type": "lr"}) == []
    assert found({"created_after": (now - timedelta(days=1)).isoformat()}) == [str(new.pk)]
    assert found({"created_before": (now - timedelta(days=1)).isoformat()}) == [str(old.pk)]


def test_it_shows_events_in_order_of_arrival(api: APIClient, django_assert_num_queries: Any) -> None:
    execution = make_execution()
    for party, sequence in (("bob", 2), ("alice", 1), ("bob", 1)):
        ExecutionEvent.objects.create(
            execution=execution, party=party, attempt=1, sequence=sequence, status="RUNNING", timestamp=timezone.now()
        )
    url = f"{API}/executions/{execution.pk}/events/"
    with django_assert_num_queries(2):  # the execution, its events
        rows = api.get(url).json()["results"]
    assert [(row["party"], row["sequence"]) for row in rows] == [("bob", 2), ("alice", 1), ("bob", 1)]
    assert [row["party"] for row in api.get(url, {"party": "alice"}).json()["results"]] == ["alice"]
    assert api.get(url, {"attempt": 2}).json()["results"] == []
    assert api.get(url, {"attempt": "x"}).status_code == 400


# Cancelling


def test_it_cancels(api: APIClient) -> None:
    execution = make_execution()
    response = api.post(f"{API}/executions/{execution.pk}/cancel/")
    assert response.status_code == 202
    assert response.json()["status"] == "CANCELLED"
    assert response.json()["changes"][-1]["by"] == "root"


def test_it_answers_409_to_cancelling_what_has_ended(api: APIClient) -> None:
    execution = make_execution(status=Status.SUCCESS)
    response = api.post(f"{API}/executions/{execution.pk}/cancel/")
    assert response.status_code == 409
    assert response.json()["errors"][0] == {
        "code": "conflict",
        "detail": "The execution has already ended with SUCCESS; there is nothing to cancel.",
        "path": None,
    }


def test_it_offers_no_way_to_edit_or_delete_an_execution(api: APIClient) -> None:
    url = f"{API}/executions/{make_execution().pk}/"
    assert api.delete(url).status_code == 405
    assert api.put(url, {}, format="json").status_code == 405


def test_it_runs_an_ended_execution_again_as_a_new_one(api: APIClient) -> None:
    task = make_task(priority=4)
    first = Execution.objects.submit(task.documents(), task=task, options=task.options())
    url = f"/api/v1/executions/{first.pk}/retry/"
    assert api.post(url).status_code == 409
    assert Execution.objects.count() == 1
    first.cancel()
    response = api.post(url)
    assert response.status_code == 201
    again = Execution.objects.exclude(pk=first.pk).get()
    assert response.headers["Location"].endswith(f"/api/v1/executions/{again.pk}/")
    assert (again.documents, again.task, again.priority, again.status) == (first.documents, task, 4, "QUEUED")
    psi = {**PSI, "outputs": {"alice": "other", "bob": "other"}}
    changed = api.post(url, {"task_config": psi, "priority": 9, "name": "changed"}, format="json")
    assert changed.status_code == 201
    third = Execution.objects.get(name="changed")
    assert (third.documents, third.task, third.priority) == (first.documents | {"task_config": psi}, None, 9)
    wrong = errors_of(api.post(url, {"task": "x", "spu_config": {"nods": []}}, format="json"))
    assert "unknown key" in wrong["task"]
    wrong = errors_of(api.post(url, {"keep_devices_seconds": 9, "parties": [], "enable_heu": False}, format="json"))
    assert wrong == {
        "keep_devices_seconds": "unknown key; belongs into task_config",
        "parties": "unknown key; belongs into sf_init_config",
        "enable_heu": "unknown key; belongs into heu_config",
    }
    wrong = errors_of(api.post(url, {"spu_config": {"nods": []}}, format="json"))
    assert "did you mean 'nodes'?" in wrong["spu_config.nods"]
    Party.objects.filter(name="bob").update(name="robert")
    refused = api.post(url)
    assert refused.status_code == 400
    assert "sf_init_config.parties.1" in errors_of(refused)


def test_it_says_that_the_database_is_busy(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise OperationalError("database is locked")

    task = make_task()
    monkeypatch.setattr("executions.models.execution.validate", locked)
    response = api.post(f"{API}/executions/", {"task": task.name}, format="json")
    assert (response.status_code, response.json()["errors"][0]["code"]) == (503, "unavailable")
