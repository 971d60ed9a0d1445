"""The overview: what needs attention, what ended in a period, and the steps to a first run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone
from redis import Redis

from controlplane.models import Dataset, Party, PartySet
from executions.admin.charts import overview
from executions.coordinator.totals import LATE, merge
from executions.models import Beat, DeadLetter, Execution, Hour
from executions.states import Status, transition
from tests.composed import admin_client, make_execution, make_parties, make_task, make_user

pytestmark = pytest.mark.django_db


def ended(hours_ago: float = 0, status: str = "SUCCESS", number: int = 1, parties: Any = None, **times: float) -> None:
    hour = (timezone.now() - timedelta(hours=hours_ago)).replace(minute=0, second=0, microsecond=0)
    Hour.objects.create(hour=hour, status=status, number=number, party_set=parties, **times)


def test_an_end_is_counted_for_all_and_for_its_parties() -> None:
    execution = make_execution(created_at=timezone.now() - timedelta(seconds=30))
    transition(execution, Status.DISPATCHED, dispatched_at=timezone.now())
    began = timezone.now() - timedelta(seconds=10)
    transition(execution, Status.SUCCESS, started_at=began)
    rows = list(Hour.objects.order_by("party_set"))
    assert {row.party_set_id for row in rows} == {None, execution.party_set_id}
    for row in rows:
        assert (row.status, row.number) == ("SUCCESS", 1)
        assert row.waited == pytest.approx(20, abs=2)
        assert row.ran == pytest.approx(10, abs=2)


def test_what_was_cancelled_before_it_began_has_waited_only() -> None:
    execution = make_execution(created_at=timezone.now() - timedelta(seconds=30))
    execution.cancel()
    row = Hour.objects.filter(party_set=None).get()
    assert (row.status, row.ran) == ("CANCELLED", 0)
    assert row.waited == pytest.approx(30, abs=2)


def test_many_rows_of_an_hour_become_one_and_old_ones_go() -> None:
    for _ in range(600):
        ended(number=2, waited=1.5, ran=0.5)
    ended(hours_ago=24 * 40)
    assert merge()
    [row] = Hour.objects.all()
    assert (row.number, row.waited, row.ran) == (1200, 900, 300)
    assert not merge()
    assert timedelta(hours=2) < LATE, "an hour is summed up after it is over"


def test_a_period_has_its_rate_its_times_and_a_bar_for_each_hour_or_day() -> None:
    ended(number=9, waited=9, ran=18)
    ended(number=1, status="FAILURE", waited=1, ran=2)
    ended(number=5, status="CANCELLED")
    ended(hours_ago=30, number=100)
    day = overview("24h", None)
    assert (day["ended"], day["success_rate"]) == (15, "90.0%")
    assert day["mean_ran"] == timedelta(seconds=20 / 15)
    states, times = day["charts"]
    assert len(states.rows) == len(states.labels) == 24
    assert states.rows[-1][1:] == [9, 1, 5]
    assert times.rows[0][1:] == [None, None]
    assert len(overview("7d", None)["charts"][0].rows) == 7
    month = overview("30d", None)
    assert (month["ended"], len(month["charts"][0].rows)) == (115, 30)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia"])
def test_days_are_those_of_the_users_zone_also_where_clocks_change(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in (datetime(2026, 3, 30, 12), datetime(2026, 10, 27, 1), datetime(2026, 7, 1, 23, 30)):
        now = day.replace(tzinfo=ZoneInfo("UTC"))
        monkeypatch.setattr("executions.admin.charts.timezone.localtime", _local(now, zone))
        Hour.objects.all().delete()
        for hours in range(24 * 31):
            Hour.objects.create(hour=(now - timedelta(hours=hours)).replace(minute=0), status="SUCCESS", number=1)
        bars = overview("30d", None)["charts"][0].rows
        assert len({label for label, *_ in bars}) == len(bars) == 30
        assert all(23 <= number <= 25 for _, number, *_ in bars[:-1])


def _local(now: datetime, zone: str) -> Any:
    return lambda at=None: (at or now).astimezone(ZoneInfo(zone))


def test_a_user_of_one_party_sees_what_involves_it_alone() -> None:
    make_task()
    ours, theirs = PartySet.of(["alice", "bob"]), PartySet.of(["bob"])
    ended(number=3, parties=ours)
    ended(number=5, parties=theirs)
    ended(number=8)
    assert overview("24h", None)["ended"] == 8
    assert overview("24h", frozenset({"alice"}))["ended"] == 3
    assert overview("24h", frozenset())["ended"] == 0


def test_it_says_what_needs_attention(admin: Client, connection: Redis) -> None:
    make_execution(status=Status.FAILURE)
    make_execution(created_at=timezone.now() - timedelta(minutes=11))
    make_execution(status=Status.AWAITING_APPROVAL)
    DeadLetter.objects.create(party="alice", kind="event", reason="no", content="", size=0)
    Dataset.objects.filter(party__name="alice").update(reported_problem="gone", reported_at=timezone.now())
    told = [(matter.colour, matter.text) for matter in admin.get("/admin/").context["matters"]]
    assert told == [
        ("danger", "No coordinator has made a step yet; start `manage.py coordinate`."),
        ("warning", "alice, bob have no live worker."),
        ("danger", "1 execution failed in the last 24 hours."),
        ("warning", "1 execution waited for more than 10 minutes."),
        ("warning", "1 execution awaiting approval of people at a party."),
        ("warning", "1 dead letter in the last 24 hours: what parties sent and could not be applied."),
        ("warning", "1 dataset is unreadable on the party's host."),
    ]
    for matter in admin.get("/admin/").context["matters"]:
        if matter.url:
            assert admin.get(matter.url).status_code == 200
    Beat.note("here")
    assert told[0] not in [(m.colour, m.text) for m in admin.get("/admin/").context["matters"]]


def test_redis_that_is_away_is_told_and_breaks_nothing(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make_execution()
    away = Redis(unix_socket_path="/nowhere.sock")
    monkeypatch.setattr("executions.admin.attention.redis_connection", lambda: away)
    monkeypatch.setattr("executions.admin.party_page.redis_connection", lambda: away)
    assert any("Redis is not reachable" in m.text for m in admin.get("/admin/").context["matters"])
    page = admin.get(f"/admin/controlplane/party/{Party.objects.get(name='alice').pk}/change/")
    assert "Redis is not reachable" in page.content.decode()


def test_it_takes_a_fixed_number_of_queries_and_shows_the_latest(
    admin: Client, connection: Redis, django_assert_max_num_queries: Any
) -> None:
    failed = make_execution(status=Status.FAILURE, error="the disk is full", error_type="ResourceError")
    make_execution(status=Status.SUCCESS)
    admin.get("/admin/")
    with django_assert_max_num_queries(22):
        response = admin.get("/admin/")
    assert {c["status"]: c["number"] for c in response.context["counts"]} == {"QUEUED": "0", "RUNNING": "0"}
    assert [e.pk for e in response.context["failed"]] == [failed.pk]
    assert len(response.context["latest"]) == 2
    assert "the disk is full" in response.content.decode()
    for _ in range(10):
        make_execution(status=Status.FAILURE)
    with django_assert_max_num_queries(22):
        admin.get("/admin/?period=30d")
    assert admin.get("/admin/?period=century").context["period"] == "24h"


def test_the_steps_lead_to_a_first_run(admin: Client, connection: Redis) -> None:
    def done() -> dict[str, bool]:
        return {step["title"]: step["done"] for step in admin.get("/admin/").context["steps"]}

    assert set(done().values()) == {False}
    assert list(done())[:4] == [
        "Register two parties",
        "Start the coordinator",
        "Start a worker of each party",
        "Publish a dataset of each",
    ]
    Beat.note("here")
    for name in make_parties():
        connection.sadd(f"rq:workers:{name}", f"rq:worker:{name}@host-1")
        connection.set(f"rq:worker:{name}@host-1", "", ex=60)
    assert list(done().values()) == [True] * 4 + [False] * 3
    make_task()
    assert set(done().values()) == {True}
    make_execution()
    assert admin.get("/admin/").context["steps"] == []


def test_nobody_is_told_of_parties_that_they_may_not_see(connection: Redis) -> None:
    make_execution(status=Status.FAILURE)
    Party.objects.create(name="carol", address="127.0.0.1", port_first=30000, port_last=30009)
    one = admin_client(make_user("one", "view_execution", "view_dataset", parties=("carol",)))
    told = [matter.text for matter in one.get("/admin/").context["matters"]]
    assert told[1:] == ["carol has no live worker."]
    assert Execution.objects.count() == 1
