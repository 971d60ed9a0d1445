"""What the lists of the admin show, count, filter and find."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from controlplane.admin import listing
from controlplane.models import Dataset
from executions.coordinator.listener import Listener
from executions.models import Execution, PipelineRun
from executions.states import Status
from tests.composed import (
    admin_client,
    make_chain,
    make_execution,
    make_pipeline,
    make_task,
    make_user,
    superuser,
)
from tests.keys import send
from tests.listed import DATASETS, EXECUTIONS, RUNS, SCHEDULES, rows_of, text_of
from tests.simulated import add_worker
from tests.walked import Circle

pytestmark = pytest.mark.django_db


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


def test_a_task_whose_data_is_not_as_registered_is_marked(admin: Client) -> None:
    task = make_task()
    Dataset.objects.filter(party__name="alice").update(
        reported_columns={"uid": "str"}, differs=True, reported_at=timezone.now()
    )
    page = admin.get("/admin/controlplane/task/")
    assert [row.drifts for row in page.context["cl"].result_list] == [True]
    assert "differs" in page.content.decode()
    own = admin.get(f"/admin/controlplane/task/{task.pk}/change/").content.decode()
    assert "is not as registered: " in own
    Dataset.objects.update(differs=False)
    assert [row.drifts for row in admin.get("/admin/controlplane/task/").context["cl"].result_list] == [False]


def test_the_task_form_asks_for_a_cluster_first(admin: Client) -> None:
    assert "Choose a cluster first" in admin.get("/admin/controlplane/task/add/").content.decode()
    make_task()  # with the only cluster there is, which is chosen then
    assert "Choose a cluster first" not in admin.get("/admin/controlplane/task/add/").content.decode()
