"""What came of executions, through the REST API: results, tables, outputs, times and hosts."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from rest_framework.test import APIClient

from controlplane.models import Dataset, Party
from executions.models import Execution, ExecutionEvent, PartyCheck, PartyRun, Preflight, StateChange
from executions.states import RunStatus, Status
from tests.composed import api_as, make_execution, make_user, token_client
from tests.executions.test_results_shown import MODEL, report, table

pytestmark = pytest.mark.django_db
API = "/api/v1"
START = timezone.now().replace(microsecond=0) - timedelta(minutes=5)
PSI = {"original_count": {"alice": 460, "bob": 450}, "intersection_count": {"alice": 363, "bob": 363}}


def result_of(api: APIClient, execution: Execution) -> Any:
    response = api.get(f"{API}/executions/{execution.pk}/result/")
    assert response.status_code == 200, response.content
    return response.json()


def ended(result: Any, task_type: str = "psi", **fields: Any) -> Execution:
    return make_execution(status=Status.SUCCESS, task_type=task_type, result=result, ended_at=timezone.now(), **fields)


def test_a_result_has_its_answer_its_tables_and_its_warnings(api: APIClient) -> None:
    execution = ended({**PSI, "warnings": ["bob's table has empty keys"], "outputs": {"alice": ["in_common"]}})
    found = result_of(api, execution)
    assert (found["execution"], found["status"], found["task_type"]) == (str(execution.pk), "SUCCESS", "psi")
    assert found["headline"] == "363 rows in common, of 460 at alice and 450 at bob."
    assert found["result"] == PSI
    assert found["warnings"] == ["bob's table has empty keys"]
    [rows] = [part for part in found["tables"] if part["title"] == "Rows by party"]
    assert (rows["columns"][0], rows["rows"]) == ("Party", [["alice", 460, 363], ["bob", 450, 363]])
    assert api.get(f"{API}/executions/{execution.pk}/").json()["result_url"].endswith("/result/")


def test_a_result_is_of_the_form_that_its_task_type_tells(api: APIClient) -> None:
    told = {entry["name"]: entry["result_schema"] for entry in api.get(f"{API}/task-types/").json()}
    for task_type, result in (("psi", PSI), ("lr", MODEL)):
        Draft202012Validator(told[task_type]).validate(result_of(api, ended(result, task_type))["result"])


def test_a_table_is_had_as_json_and_as_csv_with_all_digits(api: APIClient) -> None:
    rows = [["a", 0.1234567890123], ["=1+1", 2.5e-07], ["b", None]]
    execution = ended(report("r", tables=table(["name", "figure"], rows, "t")), "table_statistics")
    [shown] = result_of(api, execution)["tables"]
    assert (shown["columns"], shown["rows"]) == (["name", "figure"], rows)
    assert api.get(shown["url"]).json() == shown
    text = api.get(shown["url"], HTTP_ACCEPT="text/csv")
    assert text["Content-Type"] == "text/csv; charset=utf-8"
    assert list(csv.reader(io.StringIO(text.content.decode()))) == [
        ["name", "figure"], ["a", "0.1234567890123"], ["'=1+1", "2.5e-07"], ["b", ""],
    ]  # fmt: skip
    for number in ("99", "x", "-1", "1" * 9):
        missing = api.get(f"{API}/executions/{execution.pk}/result/tables/{number}/", HTTP_ACCEPT="text/csv")
        assert (missing.status_code, missing.json()["type"].rpartition(":")[2]) == (404, "not-found")


@pytest.mark.parametrize("result", [{}, {"reports": 1}, {"warnings": "x"}, {"a": [1, {"b": None}]}, []])
def test_whatever_a_party_sent_is_answered(api: APIClient, result: Any) -> None:
    for task_type in ("psi", "component", "no_longer_installed"):
        assert result_of(api, ended(result, task_type))["inputs"]


def test_inputs_and_outputs_lead_to_their_datasets(api: APIClient) -> None:
    execution = ended(PSI)
    source = Dataset.objects.get(name="clients")
    Dataset.objects.filter(pk=source.pk).update(reported_rows=450, produced_by=make_execution().pk)
    found = result_of(api, execution)
    [place] = [place for place in found["inputs"] if place["name"] == "clients"]
    assert place["made_by"] is not None
    [part] = place["parties"]
    assert (part["party"], part["dataset"], part["rows"]) == ("bob", source.pk, 450)
    assert api.get(part["url"]).json()["name"] == "clients"
    stranger = make_user("ann", "view_execution", parties=["alice"])
    [unseen] = [p for p in result_of(token_client(stranger), execution)["inputs"] if p["name"] == "clients"]
    assert unseen["parties"][0]["dataset"] is None


def test_it_tells_what_the_time_went_into(api: APIClient) -> None:
    execution = ended(PSI, attempt=1)
    StateChange.objects.all().delete()
    for status, second, why in (("QUEUED", 0, "submitted"), ("DISPATCHED", 2, ""), ("SUCCESS", 12, "")):
        moment = START + timedelta(seconds=second)
        StateChange.objects.create(execution=execution, from_status="", to_status=status, at=moment, why=why)
    for name in ("alice", "bob"):
        PartyRun.objects.create(
            execution=execution, party=Party.objects.get(name=name), attempt=1, job_id=f"{name}-1", worker=f"{name}-w",
            dispatched_at=START + timedelta(seconds=2), released_at=START + timedelta(seconds=12),
            status=RunStatus.SUCCESS,
        )  # fmt: skip
        for sequence, (stage, second) in enumerate((("sf_init", 3), ("task_execution", 5), ("cleanup", 11)), 1):
            moment = START + timedelta(seconds=second)
            ExecutionEvent.objects.create(
                execution=execution, party=name, attempt=1, sequence=sequence, status="RUNNING", stage=stage,
                timestamp=moment, received_at=moment,
            )  # fmt: skip
    found = result_of(api, execution)["time"]
    assert [(wait["status"], wait["seconds"]) for wait in found["waits"]] == [("QUEUED", 2)]
    alice = [(part["phase"], part["seconds"]) for part in found["phases"] if part["party"] == "alice"]
    assert alice == [("starting", 1), ("links", 2), ("computing", 6), ("cleanup", 1)]
    assert len(found["phases"]) == 8


def test_it_tells_what_it_ran_on(api: APIClient) -> None:
    execution = ended(PSI, attempt=1)
    preflight = Preflight.objects.create(execution=execution)
    for name, facts in (("alice", {"versions": {"spu": "0.9"}, "cpus": 2, "secret": "x"}), ("bob", ["odd"])):
        party = Party.objects.get(name=name)
        PartyRun.objects.create(execution=execution, party=party, attempt=1, job_id=f"{name}-1", worker=f"{name}-w")
        PartyCheck.objects.create(preflight=preflight, party=party, facts=facts)
    assert result_of(api, execution)["environment"] == [
        {"party": "alice", "worker": "alice-w", "facts": {"versions": {"spu": "0.9"}, "cpus": 2}},
        {"party": "bob", "worker": "bob-w", "facts": {}},
    ]


def test_who_may_not_see_it_has_no_result(api: APIClient) -> None:
    execution = ended(PSI)
    assert api_as("ann", "add_execution").get(f"{API}/executions/{execution.pk}/result/").status_code == 403
    other = make_user("bea", "view_execution", parties=[])
    assert token_client(other).get(f"{API}/executions/{execution.pk}/result/").status_code == 404
