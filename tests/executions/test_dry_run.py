"""Dry runs of submissions: in the API and the admin, against a real Valkey."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis
from rest_framework.test import APIClient

from controlplane.models import Dataset, Party
from executions.models import Execution
from tests.composed import admin_as, api_as, documents, make_task
from tests.simulated import add_worker, submit

URL = "/api/v1/executions/dry-run/"


@pytest.fixture
def client(parties: dict[str, Party], connection: Redis) -> APIClient:
    return api_as("service", "add_execution", "view_execution", "view_task")


def ask(client: APIClient, body: Any) -> dict[str, Any]:
    response = client.post(URL, body, format="json")
    assert response.status_code == 200, response.json()
    found: dict[str, Any] = response.json()
    return found


def test_it_says_that_it_would_start_at_once_and_what_each_party_would_be_sent(
    client: APIClient, connection: Redis
) -> None:
    for party in ("alice", "bob"):
        add_worker(connection, party)
    found = ask(client, documents())
    assert (found["valid"], found["verdict"], found["waits_for"]) == (True, "would start at once", "")
    assert found["parties"] == [
        {"party": name, "workers": 1, "ready": 1, "busy": 0, "ports_free": 100, "queued": 0}
        for name in ("alice", "bob")
    ]
    for name, sent in found["documents"].items():
        assert sent["sf_init_config"]["self_party"] == name
        assert sent["sf_init_config"]["cluster"]["alice"] == {"address": "127.0.0.1:20000"}
        assert [node["address"] for node in sent["spu_config"]["nodes"]] == ["127.0.0.1:20001", "127.0.0.1:20101"]
    assert not Execution.objects.exists()


def test_it_says_for_whom_it_would_wait(client: APIClient, connection: Redis) -> None:
    add_worker(connection, "alice")
    submit()
    found = ask(client, {"task": make_task().name})
    assert found["verdict"] == ("would wait: bob has no live worker; start `manage.py rqworker bob` on bob's host")
    assert [party["queued"] for party in found["parties"]] == [1, 1]
    add_worker(connection, "bob", waiting="starting")
    assert ask(client, documents())["waits_for"] == "the next process of bob is still importing SecretFlow"
    add_worker(connection, "bob", "2")
    Party.objects.filter(name="bob").update(port_last=20100)
    found = ask(client, documents())
    assert (found["waits_for"], found["documents"]) == ("all ports of bob are leased", {})


def test_it_lists_every_problem(client: APIClient) -> None:
    body = documents() | {"spu_config": {"runtime_config": {"protocol": "ABY3"}}, "heu_config": {"nods": 1}}
    found = ask(client, body)
    assert (found["valid"], found["verdict"]) == (False, "would be refused: 2 problems")
    assert [p["path"] for p in found["problems"]] == ["heu_config.nods", "spu_config.runtime_config.protocol"]
    assert client.post(URL, {"tusk": "x"}, format="json").status_code == 400


def test_it_says_that_redis_is_away(client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executions.dry_run.redis_connection", lambda: Redis(port=1))
    found = ask(client, documents())
    assert "Redis is not reachable" in found["waits_for"]
    assert set(found["documents"]) == {"alice", "bob"}


def test_the_page_of_a_task_leads_to_its_dry_run(parties: dict[str, Party], connection: Redis) -> None:
    admin = admin_as("operator", "view_task", "add_execution")
    add_worker(connection, "alice")
    task = make_task()
    url = f"/admin/controlplane/task/{task.pk}/dry-run/"
    assert url in admin.get(f"/admin/controlplane/task/{task.pk}/change/").content.decode()
    page = admin.get(url).content.decode()
    assert "What alice would receive" in page
    assert "bob has no live worker" in page
    Dataset.objects.filter(name="clients").update(name="other")
    page = admin.get(url).content.decode()
    assert "not valid" in page
    assert "task_config.data_sources.bob" in page
    assert not Execution.objects.exists()


def test_the_dry_run_takes_the_permission_to_run(parties: dict[str, Party]) -> None:
    task = make_task()
    client = admin_as("viewer", "view_task")
    assert client.get(f"/admin/controlplane/task/{task.pk}/dry-run/").status_code == 403


def test_it_looks_with_a_constant_number_of_queries(
    client: APIClient, connection: Redis, django_assert_max_num_queries: Any
) -> None:
    for _ in range(5):
        submit()
    with django_assert_max_num_queries(12):
        ask(client, documents())
