"""A user's own page, and times in the user's zone."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from controlplane.environment import ROOT
from controlplane.models import Account
from executions.models import Execution, StateChange
from tests.composed import admin_client, api_client, page_of
from tests.walked import Circle

pytestmark = pytest.mark.django_db
PAGE = "/admin/account/"
NOON = datetime(2026, 7, 1, 12, 30, 15, tzinfo=timezone.utc)


def test_times_are_shown_in_the_zone_of_the_user(circle: Circle, operator: User) -> None:
    execution = circle.rows["execution"]
    StateChange.objects.filter(execution=execution).update(at=NOON)
    Execution.objects.filter(pk=execution.pk).update(created_at=NOON)
    client = admin_client(operator)

    def shown() -> tuple[str, str]:
        history = client.get(page_of(execution)).content.decode()
        listed = client.get("/admin/executions/execution/").content.decode()
        found = re.search(r'title="([^"]*)">(2026-07-01 [0-9:.]+)</time>', history)
        hovered = re.search(r'title="(2026-07-01 [^"]+)"', listed)
        assert found
        assert hovered
        return f"{found[2]} {found[1]}", hovered[1]

    assert shown() == ("2026-07-01 12:30:15.000 UTC, UTC+0000", "2026-07-01 12:30:15 UTC")
    assert client.post(PAGE, {"time_zone": "Europe/Berlin"}).status_code == 302
    assert shown() == ("2026-07-01 14:30:15.000 CEST, UTC+0200", "2026-07-01 14:30:15 CEST")
    told = api_client(operator).get(f"/api/v1/executions/{execution.pk}/").json()["created_at"]
    assert told == "2026-07-01T12:30:15Z", "the API tells UTC"
    assert client.post(PAGE, {"time_zone": ""}).status_code == 302
    assert Account.objects.get(user=operator).time_zone == ""


@pytest.mark.parametrize("zone", ["Mars/Olympus", "x" * 5000, "\0", "../etc/passwd"])
def test_an_unknown_zone_is_refused(operator: User, zone: str) -> None:
    answer = admin_client(operator).post(PAGE, {"time_zone": zone})
    assert (answer.status_code, list(answer.context["form"].errors)) == (200, ["time_zone"])


def test_a_zone_that_this_host_does_not_know_shows_utc(operator: User) -> None:
    Account.objects.create(user=operator, time_zone="Mars/Olympus")
    assert admin_client(operator).get(PAGE).status_code == 200


def test_the_page_shows_what_one_has(circle: Circle, operator: User) -> None:
    page = admin_client(operator).get(PAGE).content.decode()
    for text in ("Operator", "alice, bob", "API tokens", "Europe/Berlin"):
        assert text in page
    assert '"/admin/account/"' in admin_client(operator).get("/admin/").content.decode(), "the user menu leads to it"


def test_each_page_takes_no_query_for_the_zone(operator: User, django_assert_num_queries: Any) -> None:
    Account.objects.create(user=operator, time_zone="Europe/Berlin")
    client = admin_client(operator)
    with django_assert_num_queries(2) as told:  # the session, and the user with the account
        client.get("/admin/jsi18n/")
    assert "account" in told.captured_queries[1]["sql"]


def test_templates_have_one_format_of_time() -> None:
    """``moment`` and ``exact`` name the zone; Django's ``date`` does not."""
    texts = {path: path.read_text() for path in Path(ROOT, "templates").rglob("*.html")}
    assert [str(path) for path, text in texts.items() if re.search(r"\|(date|time)\b", text)] == []
