"""/healthz and /readyz: what they say of what is away, to whom, and how soon."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import OperationalError
from django.test import Client
from django.utils import timezone
from redis import Redis
from redis.exceptions import AuthenticationError

from executions import health
from executions.health import AWAY, NEVER_SEEN, NOT_MIGRATED, OK, SILENT, Readiness
from executions.models import Beat

# /readyz asks in a thread of its own, which sees what is committed alone
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch, connection: Redis) -> None:
    monkeypatch.setattr(health, "readiness", Readiness())


def ready(**headers: Any) -> tuple[int, dict[str, str]]:
    response = Client(raise_request_exception=False).get("/readyz", **headers)
    assert response["Cache-Control"].count("no-store")
    return response.status_code, response.json()["checks"]


def test_it_is_ready_when_everything_is_there() -> None:
    Beat.note("coordinator-1")
    assert ready() == (200, dict.fromkeys(("database", "migrations", "redis", "coordinator"), OK))


def test_it_says_that_no_coordinator_runs() -> None:
    status, found = ready()
    assert (status, found["coordinator"], found["database"]) == (503, NEVER_SEEN, OK)


def test_asking_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        assert ready()[0] == 503
    assert caplog.text == ""


def test_it_says_that_the_coordinator_went_away() -> None:
    Beat.objects.create(coordinator="one", at=timezone.now() - timedelta(seconds=45))
    status, found = ready()
    assert (status, found["coordinator"]) == (503, AWAY)


def test_it_says_that_migrations_are_missing() -> None:
    Beat.note("coordinator-1")
    applied = MigrationRecorder.Migration.objects.filter(app="executions").order_by("-name").first()
    assert applied
    MigrationRecorder(database).record_unapplied("executions", applied.name)
    try:
        status, found = ready()
    finally:
        MigrationRecorder(database).record_applied("executions", applied.name)
    assert (status, found["migrations"], found["coordinator"]) == (503, NOT_MIGRATED, OK)


def test_it_says_that_redis_is_away_and_nothing_of_where_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> Any:
        raise AuthenticationError("redis://user:secret@redis.example")

    monkeypatch.setattr(health, "_redis", refused)
    Beat.note("coordinator-1")
    response = Client().get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == dict.fromkeys(SILENT, OK) | {"redis": SILENT["redis"]}
    assert "secret" not in response.content.decode() + caplog.text
    assert "Redis refused the user or password in REDIS_URL" in caplog.text


def test_it_says_that_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise OperationalError('connection to server at "db.example", user "x" failed')

    monkeypatch.setattr(MigrationRecorder, "applied_migrations", away)
    status, found = ready()
    assert (status, found) == (503, SILENT | {"redis": OK})


def test_a_server_that_says_nothing_is_waited_for_for_seconds_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def hangs() -> dict[str, str]:
        asked.append(1)
        time.sleep(4)
        return {}

    monkeypatch.setattr(health, "ask_database", hangs)
    monkeypatch.setattr(Readiness, "SECONDS", 0.5)
    monkeypatch.setattr(Readiness, "KEPT", 0.0)
    monkeypatch.setattr(health, "readiness", Readiness())
    began = time.monotonic()
    for _ in range(3):
        status, found = ready()
        assert (status, found["database"]) == (503, SILENT["database"])
    assert time.monotonic() - began < 3
    assert len(asked) == 1


def test_it_asks_once_a_second_however_often_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ask = health.ask_database

    def counted() -> dict[str, str]:
        asked.append(1)
        return ask()

    monkeypatch.setattr(health, "ask_database", counted)
    monkeypatch.setattr(Readiness, "KEPT", 60.0)
    monkeypatch.setattr(health, "readiness", Readiness())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ready()[0], range(40)))
    assert set(answers) == {503}
    assert len(asked) == 1


def test_this_process_lives_whatever_is_away(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        response = Client().get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_both_answer_over_plain_http_and_by_an_address_and_nothing_else_does(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT, settings.ALLOWED_HOSTS = True, ["control.example"]
    Beat.note("coordinator-1")
    assert Client().get("/healthz", HTTP_HOST="10.1.2.3:8000").status_code == 200
    assert ready(HTTP_HOST="10.1.2.3:8000")[0] == 200
    assert Client().get("/metrics", HTTP_HOST="control.example").status_code == 301
    assert Client().get("/metrics", HTTP_HOST="10.1.2.3:8000", secure=True).status_code == 400
    assert Client().post("/readyz").status_code == 405
