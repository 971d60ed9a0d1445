"""What the lists of the admin show, find, count, hand out and do to several rows at once."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.utils import timezone

from controlplane.admin import csv_download, listing
from controlplane.models import AuditEntry, Dataset, Party, SavedFilter, Schedule
from executions.coordinator.listener import Listener
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
from tests.keys import send
from tests.simulated import add_worker
from tests.walked import Circle

pytestmark = pytest.mark.django_db
EXECUTIONS, RUNS = "/admin/executions/execution/", "/admin/executions/pipelinerun/"
DATASETS, SCHEDULES = "/admin/controlplane/dataset/", "/admin/controlplane/schedule/"


def rows_of(admin: Client, url: str, **query: str) -> list[Any]:
    response = admin.get(url, query)
    assert response.status_code == 200
    return [row.pk for row in response.context["cl"].result_list]


def text_of(admin: Client, url: str, **query: str) -> str:
    return admin.get(url, query).content.decode()


def act(admin: Client, url: str, action: str, rows: Any, **more: Any) -> Any:
    """What the list posts, or, confirmed, the page that asks."""
    return admin.post(url, {"action": action, "_selected_action": [row.pk for row in rows], **more}, follow=True)


# Columns


def test_an_execution_says_who_waited_how_long_and_what_went_wrong(admin: Client) -> None:
    now = timezone.now()
    began = now - timedelta(seconds=60)
    ended = began + timedelta(seconds=45)
    submitted = {"created_at": began - timedelta(seconds=30), "queued_at": began - timedelta(seconds=30)}
    execution = make_execution(
        **submitted, status=Status.FAILURE, started_at=began, ended_at=ended, submitted_by=superuser(), attempt=1,
        dispatched_at=began, error="no column <uid>\nand " + "more " * 50,
    )  # fmt: skip
    assert (execution.waited, execution.ran) == (timedelta(seconds=30), timedelta(seconds=45))
    page = text_of(admin, EXECUTIONS)
    for said in ("30.00 s", "45.00 s", "root", "no column &lt;uid&gt; ...", f"{str(execution.pk)[:8]}", "1 min ago"):
        assert said in page, said
    assert "and more more" in page.partition('title="no column')[2]
    assert f'title="{execution.created_at:%Y-%m-%d %H:%M:%S} UTC"' in page


@pytest.mark.parametrize(
    ("fields", "waited", "ran"),
    [
        ({"status": Status.QUEUED}, 100, None),
        ({"status": Status.CANCELLED, "ended_at": 40}, 60, None),
        ({"status": Status.RUNNING, "started_at": 10, "dispatched_at": 11, "attempt": 1}, 90, 10),
        ({"status": Status.RETRY, "started_at": 50, "dispatched_at": 60, "attempt": 1}, None, None),
        # of the second attempt
        ({"status": Status.QUEUED, "queued_at": 20, "started_at": 50, "dispatched_at": 60, "attempt": 1}, 20, None),
        ({"status": Status.DISPATCHED, "queued_at": 20, "dispatched_at": 5, "attempt": 2}, 20, None),
        ({"status": Status.SUCCESS, "queued_at": 20, "started_at": 8, "ended_at": 3, "attempt": 2}, 12, 5),
        (
            {"status": Status.CANCELLED, "queued_at": 20, "started_at": 50, "dispatched_at": 60, "ended_at": 15,
             "attempt": 1},
            5, None,
        ),
        # approved by people: it has waited since it was submitted
        ({"status": Status.RUNNING, "queued_at": 30, "started_at": 10, "dispatched_at": 11, "attempt": 1}, 90, 10),
    ],
)  # fmt: skip
def test_waiting_and_running_are_told_apart(fields: dict[str, Any], waited: int | None, ran: int | None) -> None:
    """Times are seconds before now; it was submitted 100 seconds ago."""
    now = timezone.now()
    ago = {k: now - timedelta(seconds=v) if k.endswith("_at") else v for k, v in fields.items()}
    submitted = now - timedelta(seconds=100)
    execution = Execution(**({"created_at": submitted, "queued_at": submitted} | ago))

    def seconds(found: timedelta | None) -> int | None:
        return None if found is None else round(found.total_seconds())

    assert (seconds(execution.waited), seconds(execution.ran)) == (waited, ran)


def test_tasks_and_pipelines_lead_to_their_latest_runs(admin: Client, connection: Any) -> None:
    make_chain()
    execution = make_execution(status=Status.FAILURE)
    run = PipelineRun.objects.submit(make_pipeline(psi="intersect"))
    page = text_of(admin, "/admin/controlplane/task/")
    assert f"{EXECUTIONS}{execution.pk}/change/" in page
    assert "failure" in page
    assert f"{RUNS}{run.pk}/change/" in text_of(admin, "/admin/controlplane/pipeline/")


def test_a_pipeline_run_says_what_went_wrong_first(admin: Client, connection: Any) -> None:
    make_chain()
    run = PipelineRun.objects.submit(make_pipeline(psi="intersect", lr="train"))
    run.nodes.filter(name="lr").update(error="no such column")
    assert "lr: no such column" in text_of(admin, RUNS)


def test_parties_say_how_many_workers_live(admin: Client, parties: Any, connection: Any) -> None:
    add_worker(connection, "alice")
    page = admin.get("/admin/controlplane/party/")
    assert {party.name: party.alive for party in page.context["cl"].result_list} == {"alice": 1, "bob": 0}


def test_the_parties_are_listed_while_redis_is_away(
    admin: Client, parties: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise ConnectionError

    monkeypatch.setattr("executions.admin.parties.live_workers", away)
    assert "unknown" in text_of(admin, "/admin/controlplane/party/")


# Totals, and what stands where there is nothing


def test_a_total_is_exact_up_to_a_number(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ">0 executions</span>" in text_of(admin, EXECUTIONS)
    for _ in range(3):
        make_execution(status=Status.SUCCESS)
    make_execution()
    assert ">4 executions</span>" in text_of(admin, EXECUTIONS)
    assert ">1 execution with these filters</span>" in text_of(admin, EXECUTIONS, status__exact="QUEUED")
    monkeypatch.setattr("executions.admin.executions.ExecutionAdmin.list_per_page", 3)
    assert ">4 executions</span>" in text_of(admin, EXECUTIONS, p="2")
    monkeypatch.setattr("executions.admin.executions.ExecutionAdmin.list_per_page", 2)
    assert ">4 executions</span>" in text_of(admin, EXECUTIONS)
    assert ">4 executions</span>" in text_of(admin, EXECUTIONS, p="2")
    monkeypatch.setattr(listing, "MOST_COUNTED", 3)
    assert ">more than 3 executions</span>" in text_of(admin, EXECUTIONS)
    assert ">3 executions with these filters</span>" in text_of(admin, EXECUTIONS, status__exact="SUCCESS")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (EXECUTIONS, "No execution yet. Open a task and press Run now."),
        (RUNS, "No pipeline has been run yet. Open a pipeline and press Run now."),
        ("/admin/controlplane/party/", "No party yet. Add at least two"),
        (DATASETS, "No dataset yet. Run manage.py publish_datasets"),
        ("/admin/controlplane/task/", "No task yet."),
        ("/admin/controlplane/pipeline/", "No pipeline yet."),
        (SCHEDULES, "No schedule yet."),
        ("/admin/controlplane/clusterconfig/", "No cluster yet."),
        ("/admin/executions/approval/", "No approval was asked for yet."),
        ("/admin/executions/deadletter/", "No dead letter."),
        ("/admin/knox/authtoken/", "You have no API token yet."),
    ],
)
def test_an_empty_list_says_what_to_do_and_another_one_what_was_chosen(admin: Client, url: str, said: str) -> None:
    assert said in text_of(admin, url)
    page = text_of(admin, url, q="nothing of this name")
    assert said not in page
    assert "match the filters." in page
    assert "yielded into no results" not in page


def test_who_has_no_party_is_told_so(parties: Any) -> None:
    stranger = admin_client(make_user("stranger", "view_execution", parties=()))
    assert "You have no party yet" in text_of(stranger, EXECUTIONS)


# Filters and searching


def test_it_filters_by_party_user_and_task(admin: Client) -> None:
    circles = Circle.make("alice", "bob", 20000), Circle.make("carol", "dave", 22000)
    first, second = (circle.rows["execution"] for circle in circles)
    Execution.objects.filter(pk=first.pk).update(submitted_by=superuser())
    assert rows_of(admin, EXECUTIONS, party="bob") == [first.pk]
    assert rows_of(admin, EXECUTIONS, submitted_by="root") == [first.pk]
    assert rows_of(admin, EXECUTIONS, task__id__exact=str(second.task_id)) == [second.pk]
    assert rows_of(admin, EXECUTIONS, party="carol", submitted_by="root") == []
    for nobody in ("nobody", "\0", "'"):
        assert rows_of(admin, EXECUTIONS, party=nobody) == rows_of(admin, EXECUTIONS, submitted_by=nobody) == []
    assert rows_of(admin, RUNS, party="dave") == [circles[1].rows["pipelinerun"].pk]
    assert rows_of(admin, "/admin/controlplane/task/", party="dave") == [circles[1].rows["task"].pk]
    assert rows_of(admin, "/admin/controlplane/task/", task_type="lr") == []
    assert len(rows_of(admin, "/admin/controlplane/task/", task_type="psi")) == 2


def test_a_filter_suggests_what_its_user_may_see() -> None:
    circle = Circle.make("alice", "bob", 20000)
    other = Circle.make("carol", "dave", 22000)
    Execution.objects.filter(pk=circle.rows["execution"].pk).update(submitted_by=make_user("anna"))
    Execution.objects.filter(pk=other.rows["execution"].pk).update(submitted_by=make_user("xaver"))
    page = text_of(admin_client(make_user("one", "view_execution", parties=["alice"])), EXECUTIONS)
    assert '<option value="alice">' in page
    assert '<option value="anna">' in page
    assert "carol" not in page
    assert "xaver" not in page


def test_it_finds_by_the_beginning_of_an_id(admin: Client) -> None:
    first, second = make_execution(), make_execution()
    for term in (str(first.pk)[:8], str(first.pk)[:8].upper(), str(first.pk)[:13], first.pk.hex[:20]):
        assert rows_of(admin, EXECUTIONS, q=term) == [first.pk]
    assert rows_of(admin, EXECUTIONS, q=str(first.pk)[:7]) == []
    named = make_execution(name=str(second.pk)[:8])
    assert rows_of(admin, EXECUTIONS, q=str(second.pk)[:8]) == [named.pk, second.pk]


def test_it_finds_no_id_of_others() -> None:
    Circle.make("alice", "bob", 20000)
    other = Circle.make("carol", "dave", 22000).rows["execution"]
    one = admin_client(make_user("one", "view_execution", parties=["alice"]))
    assert rows_of(one, EXECUTIONS, q=str(other.pk)[:8]) == []


def test_datasets_are_filtered_by_state_and_kind(admin: Client, parties: Any) -> None:
    alice, now = parties["alice"], timezone.now()
    columns = {"uid": "str"}
    made: dict[str, Dataset] = {}
    for name, fields in {
        "as registered": {"reported_at": now, "reported_columns": columns},
        "differs": {"reported_at": now, "reported_columns": {"id": "str"}},
        "unreadable": {"reported_at": now, "reported_problem": "no such file"},
        "not reported": {},
        "output": {"produced_by": "0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e", "kind": "sf.model.sgb"},
    }.items():
        made[name] = Dataset.objects.create(party=alice, name=name.replace(" ", "_"), columns=columns, **fields)
    Dataset.objects.filter(name__in=("customers", "clients")).delete()
    for name, dataset in made.items():
        assert dataset.state == name
        assert rows_of(admin, DATASETS, state=name) == [dataset.pk], name
    assert rows_of(admin, DATASETS, state="nothing") == []
    assert rows_of(admin, DATASETS, kind="sf.model.sgb") == [made["output"].pk]
    assert "0b5e0b5e</a>" in text_of(admin, DATASETS)
    made["differs"].columns = {"id": "str"}
    made["differs"].save()
    assert rows_of(admin, DATASETS, state="differs") == []
    assert made["differs"].version == 2


def test_the_state_filter_knows_each_report(admin: Client, parties: Any, connection: Any) -> None:
    dataset = Dataset.objects.get(name="customers")

    def publish(at: float, **said: Any) -> str:
        told = {"publication": str(uuid4()), "told_at": at, **said}
        send(connection, "alice", datasets=json.dumps(told))
        Listener(connection).step()
        dataset.refresh_from_db()
        assert rows_of(admin, DATASETS, state=dataset.state, q="customers") == [dataset.pk]
        return dataset.state

    now = time.time()
    assert publish(now, datasets={"customers": {"columns": {"uid": "str"}}}) == "differs"
    assert publish(now + 1, datasets={"customers": {"columns": dataset.columns}}) == "as registered"
    assert publish(now + 2, datasets={"customers": {"columns": {"x": "str"}}}) == "differs"
    assert publish(now + 3, datasets={"customers": {"error": "no such file"}}) == "unreadable"
    assert publish(now + 4, datasets={"customers": {"columns": {"x": "str"}}}) == "differs"
    assert publish(now + 5, names=[]) == "unreadable"


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
    assert 'name="_selected_action"' not in text_of(viewer, EXECUTIONS)


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
