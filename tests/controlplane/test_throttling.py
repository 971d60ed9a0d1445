"""A sender that asks too often is told to wait, and takes nothing from the others."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from rest_framework.test import APIClient

from controlplane.environment import environment
from tests.composed import api_client, superuser, token_client

URL = "/api/v1/parties/"


@pytest.fixture(autouse=True)
def two_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    caches["requests"].clear()
    monkeypatch.setattr(environment, "requests_per_minute", 2)


@pytest.mark.django_db
def test_who_asks_too_often_is_told_when_to_go_on() -> None:
    eager, other = (token_client(User.objects.create_superuser(name)) for name in ("eager", "other"))
    assert [eager.get(URL).status_code for _ in range(3)] == [200, 200, 429]
    refused = eager.post(URL, {"name": "alice"}, "json")
    body = refused.json()
    assert (refused.status_code, body["type"]) == (429, "urn:secretflow-controlplane:problem:too-many-requests")
    assert body["detail"].startswith("You may send 2 requests a minute; wait with ?wait= instead.")
    assert 0 < int(refused["Retry-After"]) <= 60
    assert other.get(URL).json()["results"] == [], "a refused write was done"


@pytest.mark.django_db
def test_each_user_of_the_console_and_each_token_is_counted_alone() -> None:
    user = superuser()
    console = api_client(user)
    assert [console.get(URL).status_code for _ in range(3)] == [200, 200, 429]
    assert token_client(User.objects.create_superuser("another")).get(URL).status_code == 200
    assert token_client(user).get(URL).status_code == 200


@pytest.mark.django_db
def test_there_may_be_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "requests_per_minute", 0)
    assert {api_client(superuser()).get(URL).status_code for _ in range(5)} == {200}


@pytest.mark.django_db
def test_who_does_not_say_who_he_is_is_told_that() -> None:
    assert {APIClient().get(URL).status_code for _ in range(4)} == {401}
