"""What is done with the lists of the admin: actions on many rows, downloads, saved filters, and the search."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.utils import timezone

from controlplane.admin import csv_download
from controlplane.models import AuditEntry, Party, SavedFilter, Schedule
from executions.models import Execution, PipelineRun
from executions.states import PipelineStatus, Status
from tests.composed import (
    admin_as,
    admin_client,
    grant,
    make_chain,
    make_execution,
    make_pipeline,
    make_task,
    make_user,
    messages_of,
    superuser,
)
from tests.listed import DATASETS, EXECUTIONS, RUNS, SCHEDULES, text_of
from tests.walked import Circle

pytestmark = pytest.mark.django_db


def act(admin: Client, url: str, action: str, rows: Any, **more: Any) -> Any:
    """What the list posts, or, confirmed, the page that asks."""
    return admin.post(url, {"action": action, "_selected_action": [row.pk for row in rows], **more}, follow=True)


# Several at once


def test_it_cancels_several_after_asking(admin: Client) -> None:
    waiting = [make_execution() for _ in range(2)]
    ended = make_execution(status=Status.SUCCESS)
    asked = act(admin, EXECUTIONS, "cancel_executions", [*waiting, ended], index=0)
    assert "Stop 3 executions at all parties?" in asked.content.decode()
    assert str(waiting[0]) in asked.content.decode()
    assert Execution.objects.filter(status=Status.CANCELLED).count() == 0
    done = act(admin, EXECUTIONS, "cancel_executions", [*waiting, ended], confirmed="yes")
    assert messages_of(done) == ["2 are being stopped; 1 had already ended."]
    assert Execution.objects.filter(status=Status.CANCELLED).count() == 2
    assert AuditEntry.objects.filter(action="cancelled", actor="root").count() == 2
    again = act(admin, EXECUTIONS, "cancel_executions", waiting, confirmed="yes")
    assert messages_of(again) == ["0 are being stopped; 2 had already ended."]


def test_it_runs_several_again(admin: Client) -> None:
    failed, cancelled = make_execution(status=Status.FAILURE), make_execution(status=Status.CANCELLED)
    invalid = make_execution(status=Status.FAILURE)
    Execution.objects.filter(pk=invalid.pk).update(documents={"task_config": {}})
    rows = [failed, cancelled, invalid, make_execution(status=Status.SUCCESS), make_execution()]
    assert Execution.objects.count() == 5
    assert "once more?" in act(admin, EXECUTIONS, "run_executions_again", rows, index=0).content.decode()
    done = act(admin, EXECUTIONS, "run_executions_again", rows, confirmed="yes")
    said = messages_of(done)
    assert said[0] == ("2 were submitted again; 2 had neither failed nor been cancelled; 1 is not valid any more."), (
        said
    )
    assert said[1].startswith(str(invalid))
    assert Execution.objects.count() == 7


def test_nobody_acts_on_what_the_single_button_would_refuse() -> None:
    mine, both = Circle.make("alice", "bob", 20000), Circle.make("carol", "dave", 22000)
    one = make_user("one", "view_execution", "add_execution", "change_execution", parties=["alice"])
    first, other = mine.rows["execution"], both.rows["execution"]
    admin = admin_client(one)
    act(admin, EXECUTIONS, "cancel_executions", [first, other], confirmed="yes")
    other.refresh_from_db()
    assert other.status == Status.QUEUED
    done = act(admin, EXECUTIONS, "run_executions_again", [first, other], confirmed="yes")
    assert messages_of(done) == ["0 were submitted again; 1 involves parties that you have no grant for."]
    viewer = admin_client(make_user("viewer", "view_execution"))
    act(viewer, EXECUTIONS, "cancel_executions", [other], confirmed="yes")
    act(viewer, EXECUTIONS, "run_executions_again", [first], confirmed="yes")
    other.refresh_from_db()
    assert other.status == Status.QUEUED
    assert Execution.objects.count() == 2
    assert "cancel_executions" not in text_of(viewer, EXECUTIONS)


def test_one_action_takes_a_bounded_number(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [make_execution() for _ in range(3)]
    monkeypatch.setattr("controlplane.admin.bulk.MOST_AT_ONCE", 2)
    said = messages_of(act(admin, EXECUTIONS, "cancel_executions", rows, confirmed="yes", select_across="1"))
    assert said == ["Choose at most 2 rows at once. Nothing was done."]


def test_it_cancels_and_retries_pipeline_runs(admin: Client, connection: Any) -> None:
    make_chain()
    pipeline = make_pipeline(psi="intersect")
    runs = [PipelineRun.objects.submit(pipeline) for _ in range(2)]
    PipelineRun.objects.filter(pk=runs[1].pk).update(status=PipelineStatus.SUCCESS)
    said = messages_of(act(admin, RUNS, "cancel_runs", runs, confirmed="yes"))
    assert said == ["1 is being stopped; 1 had already ended."]
    PipelineRun.objects.filter(pk=runs[0].pk).update(status=PipelineStatus.CANCELLED)
    said = messages_of(act(admin, RUNS, "retry_runs", runs, confirmed="yes"))
    assert said == ["1 goes on; 1 had nothing to retry."]
    runs[0].refresh_from_db()
    assert runs[0].status == PipelineStatus.RUNNING


def test_it_switches_schedules(admin: Client) -> None:
    task = make_task()
    rows = [Schedule.objects.create(name=f"s{n}", cron="0 3 * * *", task=task, enabled=bool(n)) for n in range(3)]
    asked = act(admin, SCHEDULES, "disable_schedules", rows, index=0).content.decode()
    assert "Disable 3 schedules?" in asked
    assert "You become the owner" in asked
    said = messages_of(act(admin, SCHEDULES, "disable_schedules", rows, confirmed="yes"))
    assert said == ["2 are disabled now; 1 had been disabled before."]
    assert not Schedule.objects.filter(enabled=True).exists()
    row = Schedule.objects.get(name="s2")
    assert (row.version, row.owner, row.next_run_at) == (2, superuser(), None)
    assert AuditEntry.objects.filter(action="change", subject__startswith="schedule s").count() == 2
    act(admin, SCHEDULES, "enable_schedules", rows, confirmed="yes")
    assert Schedule.objects.filter(enabled=True, next_run_at__isnull=False).count() == 3
    only_viewer = admin_as("viewer", "view_schedule")
    act(only_viewer, SCHEDULES, "disable_schedules", rows, confirmed="yes")
    assert Schedule.objects.filter(enabled=True).count() == 3


def test_nobody_switches_a_schedule_of_further_parties() -> None:
    schedule = Circle.make("alice", "bob", 20000).rows["schedule"]
    rights = ("view_schedule", "change_schedule", "add_execution")
    one = admin_client(make_user("one", *rights, parties=["alice"]))
    said = messages_of(act(one, SCHEDULES, "disable_schedules", [schedule], confirmed="yes"))
    assert said == ["0 are disabled now; 1 involves parties that you have no grant for."]
    schedule.refresh_from_db()
    assert (schedule.enabled, schedule.owner) == (True, None)


# Downloads


def table_of(response: Any) -> list[list[str]]:
    assert response.headers["Content-Type"].startswith("text/csv")
    return list(csv.reader(io.StringIO(b"".join(response.streaming_content).decode())))


def test_a_download_has_the_list_as_filtered(admin: Client) -> None:
    now = timezone.now()
    failed = make_execution(
        status=Status.FAILURE, name="=cmd|' /C calc'!A0", error="-1+2", started_at=now, ended_at=now,
        submitted_by=superuser(),
    )  # fmt: skip
    make_execution()
    head, *rows = table_of(admin.get(f"{EXECUTIONS}csv/", {"status__exact": "FAILURE"}))
    assert len(rows) == 1
    found = dict(zip(head, rows[0], strict=True))
    assert (found["id"], found["name"], found["error"]) == (str(failed.pk), "'=cmd|' /C calc'!A0", "'-1+2")
    assert found["submitted"] == failed.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (found["parties"], found["submitted by"]) == ("alice bob", "root")
    assert "documents" not in head
    assert len(table_of(admin.get(f"{EXECUTIONS}csv/"))) == 3
    assert len(table_of(admin.get(f"{EXECUTIONS}csv/", {"q": str(failed.pk)[:8], "p": "7"}))) == 2


def test_a_download_says_that_it_was_cut(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_download, "MOST_ROWS", 2)
    for _ in range(3):
        make_execution()
    rows = table_of(admin.get(f"{EXECUTIONS}csv/"))
    assert len(rows) == 4
    assert rows[-1] == ["Cut after 2 rows. Filter the list for the others."]


def test_a_download_keeps_to_permissions_and_parties() -> None:
    Circle.make("alice", "bob", 20000)
    Circle.make("carol", "dave", 22000)
    one = admin_client(make_user("one", "view_execution", "view_dataset", parties=["alice"]))
    assert [row[4] for row in table_of(one.get(f"{EXECUTIONS}csv/"))[1:]] == ["alice bob"]
    assert [row[0] for row in table_of(one.get(f"{DATASETS}csv/"))[1:]] == ["alice"]
    assert one.get("/admin/controlplane/task/csv/").status_code == 403
    assert one.post(f"{EXECUTIONS}csv/").status_code == 405
    assert one.get(f"{EXECUTIONS}csv/", {"nonsense": "1"}).status_code == 302
    assert one.get(f"{EXECUTIONS}csv/", {"submitted_by__password__startswith": "x"}).status_code == 400


@pytest.mark.parametrize(
    "url", ["controlplane/party", "controlplane/dataset", "controlplane/task", "controlplane/pipeline",
            "controlplane/schedule", "controlplane/clusterconfig", "controlplane/spuconfig", "executions/execution",
            "executions/pipelinerun", "executions/approval", "executions/deadletter", "controlplane/auditentry"],
)  # fmt: skip
def test_every_list_can_be_downloaded(admin: Client, connection: Any, url: str) -> None:
    Circle.make("alice", "bob", 20000)
    AuditEntry.objects.create(actor="root", action="look", subject="all")
    rows = table_of(admin.get(f"/admin/{url}/csv/"))
    assert len(rows) > 1
    assert len(rows[0]) == len(rows[1])


@pytest.mark.django_db(transaction=True)
def test_a_download_is_sent_as_it_is_made_by_an_asynchronous_server() -> None:
    make_execution()
    user = superuser()

    async def downloaded() -> list[bytes]:
        client = AsyncClient()
        await client.aforce_login(user)
        response: Any = await client.get(f"{EXECUTIONS}csv/")
        return [part async for part in response.streaming_content]

    assert len(b"".join(async_to_sync(downloaded)()).splitlines()) == 2


# Saved filters


def save_as(admin: Client, name: str, query: str, of: str = "executions.execution") -> Any:
    return admin.post("/admin/filters/save/", {"list": of, "name": name, "query": query}, follow=True)


def test_a_saved_filter_is_found_again_on_its_list_by_its_user(admin: Client) -> None:
    make_execution()
    done = save_as(admin, "failed", "status__exact=FAILURE&p=3")
    assert done.redirect_chain == [(f"{EXECUTIONS}?status__exact=FAILURE", 302)]
    saved = SavedFilter.objects.get()
    assert (saved.query, saved.list) == ("status__exact=FAILURE", "executions.execution")
    assert 'href="?status__exact=FAILURE"' in text_of(admin, EXECUTIONS)
    assert "Delete the saved filter failed" not in text_of(admin, RUNS)
    save_as(admin, "failed", "status__exact=RUNNING")
    assert SavedFilter.objects.get().query == "status__exact=RUNNING"
    other = admin_as("other", "view_execution")
    assert "Delete the saved filter failed" not in text_of(other, EXECUTIONS)
    assert other.post(f"/admin/filters/{saved.pk}/delete/").status_code == 404
    assert admin.get(f"/admin/filters/{saved.pk}/delete/").status_code == 405
    admin.post(f"/admin/filters/{saved.pk}/delete/")
    assert not SavedFilter.objects.exists()


@pytest.mark.parametrize(
    ("name", "query", "of", "status"),
    [
        ("x", "nonsense=1", "executions.execution", 404),
        ("x", "submitted_by__password__startswith=p", "executions.execution", 404),
        ("x", "status__exact=FAILURE", "auth.permission", 404),
        ("x", "status__exact=FAILURE", "", 404),
        ("", "status__exact=FAILURE", "executions.execution", 200),
        ("x" * 61, "status__exact=FAILURE", "executions.execution", 200),
        ("\0", "status__exact=FAILURE", "executions.execution", 200),
        ("x", "", "executions.execution", 200),
        ("x", "q=" + "a" * 1200, "executions.execution", 200),
        ("x", "//evil.example/?status__exact=FAILURE", "executions.execution", 404),
        ("x", "http://evil.example/", "executions.execution", 404),
    ],
)
def test_only_a_filter_of_the_list_is_saved(admin: Client, name: str, query: str, of: str, status: int) -> None:
    done = save_as(admin, name, query, of)
    assert done.status_code == status
    assert all(url.startswith("/admin/executions/execution/") for url, _ in done.redirect_chain)
    assert not SavedFilter.objects.exists()


def test_a_user_saves_a_bounded_number(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.admin.saved_filters.MOST_SAVED", 2)
    for name in ("a", "b"):
        save_as(admin, name, "status__exact=FAILURE")
    assert "You have 2 saved filters" in messages_of(save_as(admin, "c", "status__exact=FAILURE"))[0]
    assert messages_of(save_as(admin, "b", "status__exact=SUCCESS")) == ["Saved as b."]
    assert SavedFilter.objects.count() == 2


def test_nobody_saves_a_filter_of_a_list_that_they_may_not_see() -> None:
    stranger = admin_as("stranger")
    assert save_as(stranger, "x", "status__exact=FAILURE").status_code == 403
    assert not SavedFilter.objects.exists()


# Kept fresh


def test_rows_come_alone_and_say_whether_more_will_change(admin: Client, django_assert_num_queries: Any) -> None:
    execution = make_execution()
    assert "data-live" in text_of(admin, EXECUTIONS)
    with django_assert_num_queries(4):  # session, user, environment, rows
        response = admin.get(EXECUTIONS, headers={"X-Rows-Alone": "1"})
    page = response.content.decode()
    assert "<html" not in page
    assert "data-live" in page
    assert str(execution.pk) in page
    assert response.headers["X-Rows-Alone"] == "yes"
    assert "no-store" in response.headers["Cache-Control"]
    assert "X-Rows-Alone" in response.headers["Vary"]
    Execution.objects.update(status=Status.SUCCESS)
    assert "data-live" not in text_of(admin, EXECUTIONS)
    assert "data-live" not in text_of(admin, DATASETS)


# The search


def found(admin: Client, term: str) -> list[str]:
    response = admin.get("/admin/search/", {"s": term, "extended": "1"})
    assert response.status_code == 200
    assert "no-store" in response.headers["Cache-Control"]
    return [result.title for result in response.context["results"]]


def test_the_search_finds_executions_by_short_id_and_what_is_registered(admin: Client, connection: Any) -> None:
    rows = Circle.make("alice", "bob", 20000).rows
    execution = rows["execution"]
    assert found(admin, str(execution.pk)[:8]) == [str(execution)]
    assert found(admin, str(rows["pipelinerun"].pk)[:8]) == [str(rows["pipelinerun"])]
    assert {"alice", "alice/table_of_alice", "alice-bob task", "alice-bob pipeline", str(execution)} <= {
        *found(admin, "alice")
    }
    assert "Executions" in found(admin, "execut")
    assert found(admin, "a") == found(admin, "") == found(admin, "\0") == []


def test_the_search_keeps_to_permissions_and_parties_at_every_moment(connection: Any) -> None:
    mine, other = Circle.make("alice", "bob", 20000), Circle.make("carol", "dave", 22000)
    views = ("execution", "task", "pipeline", "dataset", "party", "schedule")
    user = make_user("one", *(f"view_{model}" for model in views), parties=["alice"])
    one = admin_client(user)
    assert found(one, str(mine.rows["execution"].pk)[:8])
    for term in ("carol", "dave", str(other.rows["execution"].pk)[:8], str(other.rows["pipelinerun"].pk)[:8]):
        assert found(one, term) == [], term
    user.party_grants.all().delete()
    grant(user, ["carol"])
    assert found(one, str(mine.rows["execution"].pk)[:8]) == []
    assert found(one, "carol")
    user.user_permissions.clear()
    assert found(one, "carol") == []
    assert Client().get("/admin/search/", {"s": "carol"}).status_code == 302
    assert User.objects.filter(username="one").exists()
    assert Party.objects.count() == 4
