"""``manage.py prune``: it says what it removes, and exports it before."""

from __future__ import annotations

import errno
import gzip
import json
import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from controlplane.environment import environment
from controlplane.models import Party
from executions.coordinator import export as export_module
from executions.coordinator import pruning, retention
from executions.management.commands import prune as command
from executions.models import Execution, PartyRun, PipelineRun
from executions.states import Status
from tests.composed import make_user
from tests.executions.test_retention import add_event, make_old, make_run
from workers.contract.secrets import MASK

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def by_hand(connection: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "prune_hourly", False)
    monkeypatch.setattr(command, "PAUSE", 0)


def prune(*arguments: str) -> str:
    out = StringIO()
    call_command("prune", *arguments, stdout=out)
    return out.getvalue()


def lines(path: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.splitlines()]


def test_a_dry_run_tells_how_much_would_go_and_removes_nothing(parties: dict[str, Party]) -> None:
    make_old()
    make_old()
    assert prune("--dry-run") == "would be removed: 2 executions\n"
    assert Execution.objects.count() == 2
    assert prune() == "removed: 2 executions\n"
    assert prune() == "removed: nothing\n"
    assert prune("--dry-run") == "would be removed: nothing\n"


def test_it_shows_how_far_it_is(parties: dict[str, Party], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PROGRESS", 0)
    monkeypatch.setattr(command, "AT_A_STRETCH", 0)
    then = make_old().ended_at
    said = prune()
    assert f"removed so far: nothing; executions up to {then:%Y-%m-%d}\n" in said
    assert f"removed so far: 1 executions; executions up to {then:%Y-%m-%d}\n" in said


@pytest.mark.parametrize("name", ["old.jsonl", "old.jsonl.gz"])
def test_executions_are_exported_with_all_that_goes(parties: dict[str, Party], tmp_path: Path, name: str) -> None:
    ann = make_user("ann")
    execution = make_old(name="nightly", submitted_by=ann, result={"rows": 3}, error="")
    PartyRun.objects.filter(execution=execution, party=parties["bob"]).update(result={"rows": 3}, ports=[20100])
    assert "has 1 lines" in prune("--export", str(tmp_path / name))
    assert not Execution.objects.exists()
    [line] = lines(tmp_path / name)
    assert (line["kind"], line["id"], line["name"]) == ("execution", str(execution.pk), "nightly")
    assert (line["submitted_by"], line["status"], line["result"]) == ("ann", "SUCCESS", {"rows": 3})
    assert line["ended_at"] == execution.ended_at.isoformat(), "to the microsecond"
    assert [(run["party"], run["ports"]) for run in line["runs"]] == [("alice", []), ("bob", [20100])]
    assert [change["why"] for change in line["changes"]] == ["submitted"]
    assert sorted((event["party"], event["sequence"]) for event in line["events"]) == [
        ("alice", 1), ("alice", 2), ("bob", 1), ("bob", 2),
    ]  # fmt: skip
    assert [check["checks"][0]["party"] for check in line["preflights"]] == ["alice", "bob"]
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_secrets_are_not_exported(parties: dict[str, Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old()
    monkeypatch.setattr(export_module, "masked", lambda documents: dict.fromkeys(documents, MASK))
    prune("--export", str(tmp_path / "old.jsonl"))
    assert set(lines(tmp_path / "old.jsonl")[0]["documents"].values()) == {MASK}


def test_runs_of_pipelines_are_exported_with_what_their_nodes_ran(tmp_path: Path) -> None:
    run = make_run(first=Status.SUCCESS, second=Status.FAILURE)
    made = {node.name: str(node.execution_id) for node in run.nodes.all()}
    prune("--export", str(tmp_path / "old.jsonl.gz"))
    assert not PipelineRun.objects.exists()
    first, *executions = lines(tmp_path / "old.jsonl.gz")
    assert (first["kind"], first["id"], first["pipeline"]) == ("pipeline run", str(run.pk), "patients")
    assert {node["name"]: node["executions"] for node in first["nodes"]} == {name: [pk] for name, pk in made.items()}
    assert {line["id"] for line in executions} == set(made.values())


class FullDisk:
    """The disk is full after so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write = export_module.Export._put

        def put(export: Any, content: bytes) -> None:
            if len(content) > self.room:
                write(export, content[: self.room])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.room -= len(content)
            write(export, content)

        monkeypatch.setattr(export_module.Export, "_put", put)


@pytest.mark.parametrize("name", ["old.jsonl", "old.jsonl.gz"])
def test_on_a_full_disk_nothing_goes_that_is_not_exported(
    parties: dict[str, Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_old()
    prune("--export", str(tmp_path / f"one-{name}"))
    size = (tmp_path / f"one-{name}").stat().st_size
    for constant in ("FEWEST", "FEW", "MOST"):
        monkeypatch.setattr(pruning, constant, 2)
    made = {str(make_old().pk) for _ in range(6)}
    FullDisk(int(3.5 * size)).install(monkeypatch)
    with pytest.raises(CommandError) as refused:
        prune("--export", str(tmp_path / name))
    assert "No space left on device. Nothing was removed that is not in it." in str(refused.value)
    exported, left = {line["id"] for line in lines(tmp_path / name)}, {str(e.pk) for e in Execution.objects.all()}
    assert exported
    assert left
    assert exported | left == made
    assert f"The {len(exported)} lines before are in it and were removed." in str(refused.value)


def test_what_could_not_be_flushed_stays(
    parties: dict[str, Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old()
    path = tmp_path / "old.jsonl"
    calls: list[int] = []

    def failing(call: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) > 1:  # the first is that of the directory
                raise OSError(errno.EIO, "Input/output error")
            call(descriptor)

        return fsync

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    with pytest.raises(CommandError, match="Input/output error"):
        prune("--export", str(path))
    assert Execution.objects.exists()
    assert not path.exists() or path.read_bytes() == b""


def test_it_does_not_overwrite_a_file_and_leaves_none_behind_if_nothing_is_old(
    parties: dict[str, Party], tmp_path: Path
) -> None:
    path = tmp_path / "old.jsonl"
    prune("--export", str(path))
    assert not path.exists()
    path.write_text("precious\n")
    make_old()
    with pytest.raises(CommandError, match="exists; name a new file"):
        prune("--export", str(path))
    assert path.read_text() == "precious\n"
    assert Execution.objects.exists()
    with pytest.raises(CommandError, match="No such file or directory"):
        prune("--export", str(tmp_path / "nowhere" / "old.jsonl"))


def test_an_export_is_refused_while_coordinators_remove_the_same_without_one(
    parties: dict[str, Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "prune_hourly", True)
    make_old()
    with pytest.raises(CommandError, match="CONTROLPLANE_PRUNE_HOURLY=false"):
        prune("--export", str(tmp_path / "old.jsonl"))
    assert Execution.objects.exists()
    assert "1 executions" in prune()


def test_each_is_exported_once_though_it_takes_several_transactions(
    parties: dict[str, Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = make_old()
    for sequence in range(3, 20):
        add_event(execution, "bob", sequence)
    monkeypatch.setattr(retention, "MOST_AT_ONCE", 5)
    prune("--export", str(tmp_path / "old.jsonl"))
    [line] = lines(tmp_path / "old.jsonl")
    assert len(line["events"]) == 21
    assert not Execution.objects.exists()
