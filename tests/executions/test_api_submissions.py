"""What services may say of a submission: labels, deadlines, overrides; writes that are tried, or sent twice; and many
executions at once."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import close_old_connections, connections
from django.utils import timezone
from redis import Redis
from rest_framework.test import APIClient

from controlplane.api import writes
from controlplane.environment import environment
from controlplane.models import AuditEntry, KeptAnswer, Party, SPUConfig
from executions.coordinator.deadlines import end_late
from executions.coordinator.settle import retry_or_fail
from executions.models import Execution, Label, PartyRun, Preflight
from executions.states import Status
from tests.composed import PSI, api_as, api_client, documents, errors_of, make_task, token_client

pytestmark = pytest.mark.django_db
API = "/api/v1"
URL = f"{API}/executions/"


def post(api: APIClient, path: str, body: Any, status: int = 200, **headers: Any) -> Any:
    response = api.post(f"{API}/{path}", body, format="json", **headers)
    assert response.status_code == status, response.content
    return response.json()


# Labels


def test_executions_are_found_by_their_labels(api: APIClient) -> None:
    make_task()
    labels = [{"team": "risk", "env": "prod"}, {"team": "risk"}, {"team": "fraud", "env": "prod"}, {}]
    made = [post(api, "executions/", {"task": "customers-psi", "labels": found}, 201)["id"] for found in labels]
    assert api.get(f"{URL}{made[0]}/").json()["labels"] == labels[0]

    def found(query: str) -> list[int]:
        return [made.index(row["id"]) for row in api.get(f"{URL}?{query}").json()["results"]]

    assert found("label=team:risk") == [1, 0]
    assert found("label=env") == [2, 0]
    assert found("label=team:risk&label=env:prod") == [0]
    assert found("label=team:risk&label=env:test") == []
    assert found("label=team:risk&ordering=created_at") == [0, 1]
    first = api.get(f"{URL}?label=team&page_size=2").json()
    second = api.get(first["next"]).json()
    assert [made.index(row["id"]) for row in first["results"] + second["results"]] == [2, 1, 0]
    for query in ("label=:x", "label=:x&label=team", "label=team&label=:x"):
        assert "names no key" in errors_of(api.get(f"{URL}?{query}"))["label"]
        assert (
            "names no key"
            in errors_of(api.get(f"/api/v1/events/?{query}", headers={"accept": "text/event-stream"}))["label"]
        )


@pytest.mark.parametrize(
    ("labels", "path", "words"),
    [
        ({"": "x"}, "labels.", "A key begins with a letter or digit"),
        ({"a b": "x"}, "labels.a b", "A key begins with a letter or digit"),
        ({"a": 1}, "labels.a", "A value is a text"),
        ({"a": "x" * 101}, "labels.a", "A value is a text"),
        ({"a": "b\nc"}, "labels.a", "A value is a text"),
        ({f"k{n}": "" for n in range(21)}, "labels", "There may be up to 20 labels."),
        (["a"], "labels", "Labels are an object"),
        (None, "labels", "null"),
    ],
)
def test_it_says_what_is_wrong_with_labels(api: APIClient, labels: Any, path: str, words: str) -> None:
    make_task()
    response = api.post(URL, {"task": "customers-psi", "labels": labels}, format="json")
    assert response.status_code == 400
    assert words in errors_of(response)[path]
    assert not Label.objects.exists()


def test_a_retry_keeps_the_labels_unless_it_has_others(api: APIClient) -> None:
    execution = Execution.objects.submit(make_task().documents(), labels={"a": "b"})
    execution.cancel()
    assert post(api, f"executions/{execution.pk}/retry/", {}, 201)["labels"] == {"a": "b"}
    assert post(api, f"executions/{execution.pk}/retry/", {"labels": {"c": ""}}, 201)["labels"] == {"c": ""}


# Overrides


def test_a_task_is_run_with_some_of_its_documents_changed(api: APIClient) -> None:
    task = make_task(priority=3)
    body = {"task": task.name, "overrides": {"task_config": {"outputs": {"alice": "today"}, "unknown": None}}}
    made = Execution.objects.get(pk=post(api, "executions/", body, 201)["id"])
    assert made.documents["task_config"] == {**PSI, "outputs": {**PSI.get("outputs", {}), "alice": "today"}}
    assert (made.task, made.name, made.priority) == (None, task.name, 3)
    task.refresh_from_db()
    assert task.document == PSI
    same = post(api, "executions/", {"task": task.name, "overrides": {}}, 201)
    assert same["task"] == task.name


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ({"overrides": {}}, "overrides", "name the task, too"),
        ({"task": "customers-psi", "overrides": []}, "overrides", "dictionary"),
        ({"task": "customers-psi", "overrides": {"task": {}}}, "overrides.task", "is no document; known: "),
        ({"task": "customers-psi", "overrides": {"task_config": None}}, "task_config", "is required"),
        (
            {"task": "customers-psi", "overrides": {"task_config": {"data_sources": {"bob": "client"}}}},
            "task_config.data_sources.bob",
            "did you mean 'clients'?",
        ),
    ],
)
def test_it_says_what_is_wrong_with_overrides(api: APIClient, body: Any, path: str, words: str) -> None:
    make_task()
    response = api.post(URL, body, format="json")
    assert response.status_code == 400, response.content
    assert words in errors_of(response)[path]


# Deadlines


def test_what_waits_fails_at_its_deadline(api: APIClient, connection: Redis) -> None:
    make_task()
    deadline = timezone.now() + timedelta(hours=1)
    made = post(api, "executions/", {"task": "customers-psi", "deadline": deadline.isoformat()}, 201)
    assert not end_late()
    Execution.objects.update(deadline=timezone.now())
    assert end_late()
    assert not end_late()
    found = api.get(f"{URL}{made['id']}/").json()
    assert found["status"] == "FAILURE"
    assert found["error"]["message"].startswith("it had not ended by its deadline, ")


def test_what_runs_is_stopped_at_its_deadline(execution: Execution) -> None:
    Execution.objects.update(deadline=timezone.now())
    assert end_late()
    assert not end_late()
    runs = PartyRun.objects.all()
    assert all("deadline" in run.error and run.stop_requested_at for run in runs)


def test_no_retry_is_due_after_the_deadline(execution: Execution) -> None:
    execution.deadline = timezone.now() + timedelta(seconds=1)
    execution.save()
    retry_or_fail(execution, "ResourceError", "alice: no memory", {"error": "no memory"})
    execution.refresh_from_db()
    assert (execution.status, execution.error) == (Status.FAILURE, "no memory")


def test_a_deadline_has_to_be_still_to_come(api: APIClient) -> None:
    make_task()
    body = {"task": "customers-psi", "deadline": "2020-01-01T00:00:00Z"}
    assert "has passed already" in errors_of(api.post(URL, body, format="json"))["deadline"]


# Dry runs of every write


def test_a_dry_run_of_any_write_leaves_no_trace(api: APIClient, connection: Redis) -> None:
    task, spu = make_task(), SPUConfig.objects.create(name="mine")
    execution = Execution.objects.submit(task.documents())
    Preflight.objects.ask(task.documents())
    before = (
        AuditEntry.objects.count(), SPUConfig.history.count(), Preflight.objects.count(), Execution.objects.count()
    )  # fmt: skip
    made = api.post(f"{API}/spu-configs/?dry_run=true", {"name": "other"}, format="json")
    assert (made.status_code, made.json()["name"], made["Dry-Run"]) == (201, "other", "true")
    assert "Location" not in made.headers
    changed = api.patch(f"{API}/spu-configs/{spu.pk}/?dry_run=true", {"description": "x"}, format="json")
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    assert api.delete(f"{API}/spu-configs/{spu.pk}/?dry_run=true").status_code == 204
    assert api.delete(f"{API}/cluster-configs/{task.cluster_id}/?dry_run=true").status_code == 409
    assert api.patch(f"{API}/site/?dry_run=true", {"environment": "x"}, format="json").status_code == 200
    assert post(api, "preflights/?dry_run=true", {"task": task.name}, 201)["state"] == "checking"
    assert post(api, f"executions/{execution.pk}/cancel/?dry_run=true", None, 202)["status"] == "CANCELLED"
    assert "verdict" in post(api, "executions/?dry_run=true", {"task": task.name})
    assert "has a wrong" not in str(post(api, "executions/?dry_run=maybe", {"task": task.name}, 400))
    after = (
        AuditEntry.objects.count(), SPUConfig.history.count(), Preflight.objects.count(), Execution.objects.count()
    )  # fmt: skip
    assert after == before
    spu.refresh_from_db()
    execution.refresh_from_db()
    assert (spu.version, execution.status) == (1, Status.QUEUED)


# Idempotency keys


def test_the_same_request_is_done_once_and_answered_the_same(api: APIClient) -> None:
    task = make_task()
    first = api.post(URL, {"task": task.name, "name": "x"}, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    again = api.post(URL, {"name": "x", "task": task.name}, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again["Location"] == first["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert again["Idempotency-Replayed"] == "true"
    assert Execution.objects.count() == 1
    assert post(api, "executions/", {"task": task.name}, 201, HTTP_IDEMPOTENCY_KEY="k2")["id"] != first.json()["id"]


def test_a_key_is_for_one_request_of_one_sender(api: APIClient) -> None:
    task = make_task()
    post(api, "executions/", {"task": task.name}, 201, HTTP_IDEMPOTENCY_KEY="k")
    for path, body in (
        ("executions/", {"task": task.name, "priority": 1}),
        ("executions/?dry_run=false", {"task": task.name}),
        ("preflights/", {"task": task.name}),
    ):
        refused = post(api, path, body, 422, HTTP_IDEMPOTENCY_KEY="k")
        assert refused["type"].endswith(":key-reused")
    other = api_client(User.objects.create_superuser("other"))
    post(other, "executions/", {"task": task.name}, 201, HTTP_IDEMPOTENCY_KEY="k")
    root = User.objects.get(username="root")
    for _ in range(2):
        post(token_client(root), "executions/", {"task": task.name}, 201, HTTP_IDEMPOTENCY_KEY="k")
    assert Execution.objects.count() == 4


def test_what_was_refused_may_be_sent_again_with_its_key(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    post(api, "executions/", {"task": "nothing"}, 400, HTTP_IDEMPOTENCY_KEY="k")
    with monkeypatch.context() as broken:
        broken.setattr(Label, "keep", None)
        post(api, "executions/", {"task": task.name}, 500, HTTP_IDEMPOTENCY_KEY="k")
    assert not KeptAnswer.objects.exists()
    post(api, "executions/", {"task": task.name}, 201, HTTP_IDEMPOTENCY_KEY="k")


@pytest.mark.parametrize("key", ["", "x" * 256, "ä"])
def test_it_says_what_a_key_is(api: APIClient, key: str) -> None:
    for address in (URL, f"{URL}?dry_run=true"):
        response = api.post(address, {}, format="json", HTTP_IDEMPOTENCY_KEY=key)
        assert "1 to 255 printable ASCII" in errors_of(response)["Idempotency-Key"]


def test_a_key_at_work_is_refused_until_its_process_must_be_dead(api: APIClient) -> None:
    task = make_task()
    send = {"task": task.name}
    post(api, "executions/", send, 201, HTTP_IDEMPOTENCY_KEY="k")
    # As if the process had died before it wrote anything
    Execution.objects.all().delete()
    KeptAnswer.objects.update(status=None)
    busy = api.post(URL, send, format="json", HTTP_IDEMPOTENCY_KEY="k")
    assert (busy.status_code, busy["Retry-After"]) == (409, "1")
    KeptAnswer.objects.update(since=timezone.now() - writes.AT_WORK_FOR)
    post(api, "executions/", send, 201, HTTP_IDEMPOTENCY_KEY="k")
    assert Execution.objects.count() == 1


def test_a_slow_write_that_another_took_up_is_undone(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    keep = Label.keep

    def slow(execution: Execution) -> None:
        keep(execution)
        KeptAnswer.objects.update(lease="00000000-0000-0000-0000-000000000001")

    monkeypatch.setattr(Label, "keep", slow)
    post(api, "executions/", {"task": task.name}, 409, HTTP_IDEMPOTENCY_KEY="k")
    assert not Execution.objects.exists()


def test_a_key_expires(api: APIClient) -> None:
    task = make_task()
    post(api, "executions/", {"task": task.name}, 201, HTTP_IDEMPOTENCY_KEY="k")
    KeptAnswer.objects.update(since=timezone.now() - writes.KEPT_FOR)
    post(api, "executions/", {"task": task.name, "priority": 1}, 201, HTTP_IDEMPOTENCY_KEY="k")
    assert Execution.objects.count() == 2


def test_changes_and_deletions_take_a_key_too(api: APIClient) -> None:
    spu = SPUConfig.objects.create(name="mine")
    address = f"{API}/spu-configs/{spu.pk}/"
    for _ in range(2):
        assert api.delete(address, HTTP_IDEMPOTENCY_KEY="k").status_code == 204
    assert api.delete(address).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_of_requests_at_the_same_moment_one_is_done(api: APIClient) -> None:
    task = make_task()
    clients = [api_client(User.objects.get(username="root")) for _ in range(8)]
    begin, answers = threading.Barrier(len(clients)), []

    def send(client: APIClient) -> None:
        try:
            begin.wait(10)
            answers.append(client.post(URL, {"task": task.name}, format="json", HTTP_IDEMPOTENCY_KEY="k").status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=send, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    close_old_connections()
    assert Execution.objects.count() == 1
    assert 201 in answers
    assert set(answers) <= {201, 409}


# Many at once


def test_all_that_a_filter_finds_is_cancelled(api: APIClient, connection: Redis) -> None:
    task = make_task()
    made = [Execution.objects.submit(task.documents(), task=task, labels={"n": str(n)}) for n in range(4)]
    other = Execution.objects.submit(task.documents(), name="other")
    made[3].cancel()
    answer = post(api, "executions/cancel/", {"filter": {"task": task.name}, "limit": 2})
    assert [item["id"] for item in answer["results"]] == [str(made[2].pk), str(made[1].pk)]
    assert all(item["done"] and not item["detail"] and item["execution"] is None for item in answer["results"])
    more = {"filter": {"task": task.name, "created_before": answer["continue_before"]}}
    rest = post(api, "executions/cancel/", more)
    assert ([item["id"] for item in rest["results"]], rest["continue_before"]) == ([str(made[0].pk)], None)
    other.refresh_from_db()
    assert other.status == Status.QUEUED


def test_all_that_a_filter_finds_runs_again(api: APIClient, connection: Redis) -> None:
    task = make_task()
    for _ in range(2):
        Execution.objects.submit(task.documents(), task=task, labels={"team": "risk"}).cancel()
    broken = Execution.objects.submit(task.documents(), labels={"team": "risk"})
    broken.cancel()
    wrong = task.documents() | {"task_config": {**PSI, "data_sources": {"alice": "gone", "bob": "clients"}}}
    Execution.objects.filter(pk=broken.pk).update(documents=wrong)
    wanted = {"filter": {"label": ["team:risk"], "status": ["CANCELLED", "FAILURE"]}}
    items = post(api, "executions/retry/", wanted)["results"]
    assert [item["done"] for item in items] == [False, True, True]
    assert "gone" in items[0]["detail"]
    new = Execution.objects.filter(status=Status.QUEUED)
    assert {str(execution.pk) for execution in new} == {item["execution"] for item in items[1:]}
    assert all(execution.task == task and execution.labels == {"team": "risk"} for execution in new)


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ({}, "filter", "required"),
        ({"filter": {}}, "filter", "may not be empty"),
        ({"filter": {"stats": "x"}}, "filter.stats", "did you mean 'status'?"),
        ({"filter": {"status": "DONE"}}, "filter.status", "Select a valid choice."),
        ({"filter": {"name": {}}}, "filter.name", "should be a text"),
        ({"filter": {"name": "x"}, "limit": 501}, "limit", "less than or equal to 500"),
    ],
)
def test_it_says_what_is_wrong_with_many(api: APIClient, body: Any, path: str, words: str) -> None:
    for name in ("cancel", "retry"):
        response = api.post(f"{URL}{name}/", body, format="json")
        assert response.status_code == 400, response.content
        assert words in errors_of(response)[path]


def test_many_need_the_right_to_see_them(parties: dict[str, Party], connection: Redis) -> None:
    execution = Execution.objects.submit(documents(), name="x")
    wanted = {"filter": {"name": "x"}}
    post(api_as("ann", "add_execution", "change_execution"), "executions/cancel/", wanted, 403)
    post(api_as("bea", "view_execution"), "executions/cancel/", wanted, 403)
    post(api_as("carl", "view_execution"), "executions/retry/", wanted, 403)
    execution.refresh_from_db()
    assert execution.status == Status.QUEUED
    allowed = api_as("dan", "view_execution", "change_execution")
    assert [item["done"] for item in post(allowed, "executions/cancel/", wanted)["results"]] == [True]


# Too much


def test_a_full_queue_takes_no_more_for_a_while(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    ended = Execution.objects.submit(task.documents(), task=task)
    Execution.objects.filter(pk=ended.pk).update(status=Status.FAILURE, ended_at=timezone.now())
    monkeypatch.setattr(environment, "most_queued", 2)
    post(api, "executions/", {"task": task.name}, 201)
    post(api, "executions/", {"task": task.name}, 201)
    for path, body in (
        ("executions/", {"task": task.name}),
        (f"executions/{ended.pk}/retry/", {}),
        ("executions/retry/", {"filter": {"task": task.name}}),
        ("pipeline-runs/", {"pipeline": "any"}),
    ):
        response = api.post(f"{API}/{path}", body, format="json")
        assert (response.status_code, response["Retry-After"]) == (503, "10")
        assert response.json()["type"].endswith(":overloaded")
    post(api, "executions/?dry_run=true", {"task": task.name})
    Execution.objects.filter(status=Status.QUEUED).first().cancel()
    post(api, "executions/", {"task": task.name}, 201)


# Filters


def test_lists_are_filtered_by_who_what_and_how_it_ended(api: APIClient, connection: Redis) -> None:
    task = make_task()
    root = User.objects.get(username="root")
    mine = Execution.objects.submit(task.documents(), by=root, name="mine")
    warned = Execution.objects.submit(task.documents())
    Execution.objects.filter(pk=warned.pk).update(has_warnings=True)

    def found(query: str) -> set[str]:
        return {row["id"] for row in api.get(f"{URL}?{query}").json()["results"]}

    both = {str(mine.pk), str(warned.pk)}
    assert found("submitted_by=root") == found("name=mine") == {str(mine.pk)}
    assert found("submitted_by=nobody") == set()
    assert found("has_warnings=true") == {str(warned.pk)}
    assert found("has_warnings=false") == {str(mine.pk)}
    assert found("party=alice") == found("party=bob") == both
    assert found("party=carol") == found(f"pipeline_run={mine.pk}") == set()
