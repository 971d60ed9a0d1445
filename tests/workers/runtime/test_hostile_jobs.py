"""What a job from a queue that anybody can write to may do to the files of the party's host: nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from controlplane.environment import ROOT
from tests.keys import stream
from tests.rules.base import dispatched
from workers.contract.errors import ConfigError
from workers.contract.orders import OrderRefused
from workers.contract.run_name import RunName
from workers.host.party import PartyHost
from workers.host.places import below
from workers.runtime import task_run

RUN = RunName("0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e", 2)


@pytest.fixture
def host(tmp_path: Path, connection: Redis, monkeypatch: pytest.MonkeyPatch) -> PartyHost:
    """Of a party whose directories hold files of others."""
    (tmp_path / "party").mkdir()
    path = tmp_path / "party" / "party.toml"
    path.write_text('party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n')
    host = PartyHost.load(path)
    host.prepare_directories()
    for place in (tmp_path / "party", host.output_dir, host.workdirs.root, host.journal_dir):
        precious = place / "precious-1"
        precious.mkdir()
        (precious / "rows.csv").write_text("uid\na\n")
    monkeypatch.chdir(tmp_path)  # a run leaves this process in /
    monkeypatch.setattr(task_run, "runtime", task_run.Runtime(host, stream(connection, "alice"), "alice-1"))
    return host


def files_below(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*") if found.name != ".lock"}


def order(task_request_id: Any, job_name: Any) -> dict[str, Any]:
    return {"task_request_id": task_request_id, **dispatched(), "sf_init_config": {"job_name": job_name}}


HOSTILE = [
    ("precious", "precious-1"),
    ("../precious", "../precious-1"),
    ("../../outputs/precious", "../../outputs/precious-1"),
    (".", ".-1"),
    ("", "-1"),
    (None, "None-1"),
    (7, "7-1"),
    ("/tmp/x", "/tmp/x-1"),
    ("a\0b", "a\0b-1"),
    (RUN.execution.upper(), f"{RUN.execution.upper()}-1"),
    (f"{{{RUN.execution}}}", f"{{{RUN.execution}}}-1"),
    (RUN.execution, "precious-1"),
    (RUN.execution, f"{RUN.execution}-../precious-1"),
    (RUN.execution, f"{RUN.execution}-0"),
    (RUN.execution, f"{RUN.execution}-01"),
    (RUN.execution, f"{RUN.execution}-{10**9}"),
    (RUN.execution, f"{RUN.execution}-\N{SUPERSCRIPT TWO}"),
    (RUN.execution, ["a"]),
]


@pytest.mark.parametrize(("task_request_id", "job_name"), HOSTILE)
def test_it_is_refused_before_anything_is_written_or_removed(
    host: PartyHost, connection: Redis, tmp_path: Path, task_request_id: Any, job_name: Any
) -> None:
    before = files_below(tmp_path)
    with pytest.raises(OrderRefused):
        task_run.execute_secretflow_task(**order(task_request_id, job_name))
    assert files_below(tmp_path) == before
    assert connection.keys("*") == []


def test_a_job_whose_documents_are_wrong_removes_no_directory_that_is_not_its_own(
    host: PartyHost, tmp_path: Path
) -> None:
    running = host.workdirs.of_run(RUN)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(host._path), str(RUN)], stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        result = task_run.execute_secretflow_task(**order(RUN.execution, str(RUN)))
        assert result["status"] == "failure"
        assert (running / "rows.csv").exists()
        with pytest.raises(Exception, match="at this run already"):
            host.workdirs.claim(running)
        assert (running / "rows.csv").exists()
    finally:
        holder.kill()
        holder.communicate(timeout=10)
    host.workdirs.claim(running).close()
    assert not (running / "rows.csv").exists()


HOLDER = """
import sys, time
from workers.contract.run_name import RunName
from workers.host.party import PartyHost
workdirs = PartyHost.load(sys.argv[1]).workdirs
path = workdirs.of_run(RunName(sys.argv[2].rpartition("-")[0], 2))
lock = workdirs.claim(path)
(path / "rows.csv").write_text("uid\\na\\n")
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/x", "a\0", "a b", "a\n", "-rf", "x" * 300, "ä"])
def test_no_path_is_made_of_what_is_no_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a file's name"):
        below(tmp_path, name)


@pytest.mark.parametrize("name", [f"{RUN}.jsonl", "publish-7", ".journal", "model_1.bin", "x" * 255])
def test_a_path_is_made_of_a_plain_name(tmp_path: Path, name: str) -> None:
    assert below(tmp_path, name).parent == tmp_path
