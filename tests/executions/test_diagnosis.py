"""The catalogue of known failures, and the file with everything about one execution."""

from __future__ import annotations

import ast
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from controlplane.environment import ROOT
from controlplane.models import Party
from executions.diagnosis.catalogue import CATALOGUE, Known, as_table, known, remedy_of
from executions.models import ExecutionEvent, PartyRun
from executions.states import Status
from tests.composed import make_execution, page_of
from tests.stack import PASSWORD


def texts() -> str:
    """Every text in the product's code, as Python has it: pieces of a long one are joined."""
    found: list[str] = []
    for package in ("workers", "executions", "controlplane"):
        for path in (ROOT / package).rglob("*.py"):
            if path.parent.name != "diagnosis":
                tree = ast.parse(path.read_text())
                constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
                found += [value for value in constants if isinstance(value, str)]
    return "\n".join(found)


def test_each_message_of_the_catalogue_is_one_that_the_product_gives() -> None:
    said = texts()
    for entry in CATALOGUE:
        for part in entry.parts:
            assert part.strip(" ;") in said, entry.message


def test_the_guide_has_the_catalogue() -> None:
    assert as_table() in (ROOT / "docs/operators.md").read_text()


@pytest.mark.parametrize(
    ("text", "stage", "remedy"),
    [
        ("alice, bob have no live worker; start `manage.py rqworker alice`", "", "Run `manage.py rqworker"),
        ("no coordinator has looked at it yet; is `manage.py coordinate` running?", "", "Start `manage.py coordinate`"),
        ("dataset x is not as registered: no column a; correct the table", "preflight", "Correct the table"),
        ("anything else", "preflight", "A party's host refused the run"),
        ("the link to a peer broke", "task_execution", "It is tried again by itself."),
    ],
)
def test_a_message_has_its_remedy(text: str, stage: str, remedy: str) -> None:
    found = known(text, stage)
    assert isinstance(found, Known)
    assert found.remedy.startswith(remedy)
    assert known("something new", "task_execution") is None


@pytest.mark.django_db
class TestOfAnExecution:
    def failed(self, **fields: Any) -> Any:
        execution = make_execution(
            status=Status.FAILURE, attempt=1, error="the disk is full", error_type="ResourceError", error_party="alice",
            **fields,
        )  # fmt: skip
        alice = Party.objects.get(name="alice")
        PartyRun.objects.create(
            execution=execution, party=alice, attempt=1, job_id="a", status="FAILURE", error="the disk is full"
        )
        for sequence, stage in enumerate(("task_started", "sf_init"), 1):
            ExecutionEvent.objects.create(
                execution=execution, party="alice", attempt=1, sequence=sequence, status="RUNNING", stage=stage,
                timestamp=execution.created_at, data={"n": sequence},
            )  # fmt: skip
        return execution

    def test_the_page_says_what_to_do(self, admin: Client) -> None:
        execution = self.failed()
        page = admin.get(page_of(execution)).content.decode()
        assert "<b>What to do:</b> Free space at that party" in page
        waiting = make_execution(waiting_for="bob has no live worker; start `manage.py rqworker bob` on bob's host")
        page = admin.get(page_of(waiting)).content.decode()
        assert "start <code>manage.py rqworker bob</code> on bob&#x27;s host" in page
        assert "Run <code>manage.py rqworker &lt;party&gt;</code>" in page
        assert remedy_of(make_execution()) == ""

    def test_the_file_has_all_of_it_and_no_secret(self, admin: Client) -> None:
        execution = self.failed()
        response = admin.get(f"/admin/executions/execution/{execution.pk}/diagnosis/")
        assert response.headers["Content-Type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            content = {name: archive.read(name).decode() for name in archive.namelist()}
        assert set(content) == {"README.txt", "reading.txt", "execution.json", "events.jsonl", "environment.json"}
        assert "It failed at alice with ResourceError: the disk is full" in content["reading.txt"]
        assert "What to do: Free space" in content["reading.txt"]
        stages = [json.loads(line)["stage"] for line in content["events.jsonl"].splitlines()]
        assert stages == ["task_started", "sf_init"]
        assert json.loads(content["execution.json"])["documents"]["task_config"]["task_type"] == "psi"
        assert json.loads(content["environment.json"])["packages"]["django"].startswith("5.2")
        assert PASSWORD not in "".join(content.values())

    def test_the_command_writes_it_and_prints_the_reading(self, tmp_path: Path, capsys: Any) -> None:
        execution = self.failed()
        path = tmp_path / "x.zip"
        call_command("diagnose", str(execution.pk)[:8], output=str(path))
        assert zipfile.is_zipfile(path)
        assert "It failed at alice" in capsys.readouterr().out
        for name, said in (
            ("x", "is no id"), ("1234567", "is no id"), ("0" * 40, "is no id"), ("00000000", "There is no execution"),
        ):  # fmt: skip
            with pytest.raises(CommandError, match=said):
                call_command("diagnose", name, output=str(tmp_path / "y.zip"))
        with pytest.raises(CommandError, match="exists; name a new file"):
            call_command("diagnose", str(execution.pk), output=str(path))
        with pytest.raises(CommandError, match="cannot be written: No such file"):
            call_command("diagnose", str(execution.pk), output=str(tmp_path / "none" / "y.zip"))
        assert not (tmp_path / "y.zip").exists()
