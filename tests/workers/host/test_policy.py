"""What party.toml allows of its tables, and what no file or link can do about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from controlplane.environment import ROOT
from fixtures.documents import psi_documents
from workers.contract.errors import AlgorithmError, ConfigError
from workers.contract.validation import Run, validate
from workers.host.outputs import note_of
from workers.host.party import PartyHost
from workers.host.policy import Uses
from workers.host.sources import readable
from workers.host.tables import column_types, read_text

TABLE = 'uid,age,diagnosis\np1,1,"a,b"\np2,2,c\n'
TOML = 'party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n[datasets.people]\npath = "people.csv"\n'
TODAY = date.today()


def host_of(directory: Path, entry: str = "") -> PartyHost:
    (directory / "people.csv").write_text(TABLE)
    (directory / "party.toml").write_text(TOML + entry)
    return PartyHost.load(directory / "party.toml")


def run_of(dataset: str = "people", **task: Any) -> Run:
    return validate(psi_documents(dataset, **task))


def lr(dataset: str = "people") -> Run:
    params = {
        "features": {"alice": ["age"], "bob": ["x"]},
        "label": {"party": "bob", "column": "y"},
        "model_type": "logistic_regression",
    }
    return run_of(dataset, task_type="lr", outputs={}, algorithm_params={"ml_params": params})


@pytest.mark.parametrize(
    ("entry", "run", "wrong"),
    [
        ('task_types = ["psi"]', run_of(), None),
        ('task_types = ["psi"]', lr(), "alice's policy does not allow people to be used in task type lr"),
        ('task_types = ["*"]\npeers = ["bob"]', lr(), None),
        ('peers = ["carol"]', run_of(), "alice's policy does not allow people to be used in tasks with bob"),
        (f"expires = {TODAY}", run_of(), None),
        (f"expires = {TODAY - timedelta(1)}", run_of(), "no longer allows people to be used: it expired on"),
    ],
)
def test_a_table_is_used_as_party_toml_says(tmp_path: Path, entry: str, run: Run, wrong: str | None) -> None:
    # As its other processes have it
    host = PartyHost.from_message(json.loads(json.dumps(host_of(tmp_path, entry).as_message())))
    if wrong is None:
        host.check(run)
    else:
        with pytest.raises(ConfigError, match=wrong):
            host.check(run)


def test_what_was_made_of_a_table_is_used_as_the_table(tmp_path: Path) -> None:
    host = host_of(tmp_path, 'task_types = ["psi"]\npeers = ["bob"]')
    host.prepare_directories()
    assert host.origins("people") == ["people"]
    for name, origins in (("common", host.origins("people")), ("further", ["common"])):
        made = host.output_dir / "made"
        made.write_text(TABLE)
        host.keep_output(name, made, "x", made_of={o for origin in origins for o in host.origins(origin)})
    assert host.origins("further") == ["people"]
    host.check(run_of("further"))
    with pytest.raises(ConfigError, match="does not allow further to be used in task type lr"):
        host.check(lr("further"))
    note_of(host.output_dir / "further.csv").unlink()
    assert host.origins("further") == []


@pytest.mark.parametrize("form", ["", 'encoding = "utf-16"', 'delimiter = ";"'])
def test_tasks_see_no_column_that_is_not_allowed(tmp_path: Path, form: str) -> None:
    host = host_of(tmp_path, f'columns = ["diagnosis", "uid"]\ntypes = {{age = "int", uid = "str"}}\n{form}')
    if "utf-16" in form:
        (tmp_path / "people.csv").write_text(TABLE, encoding="utf-16")
    elif form:
        (tmp_path / "people.csv").write_text('uid;age;diagnosis\np1;1;"a,b"\np2;2;c\n')
    [table] = readable({"": host.dataset("people")}, tmp_path).values()
    assert column_types(table.path, "people") == {"uid": "str", "diagnosis": "str"}
    assert read_text(table.path, "people", ["diagnosis"])["diagnosis"].to_pylist() == ["a,b", "c"]
    assert table.path.stat().st_mode & 0o777 == 0o600
    assert "age" not in table.path.read_text()


def test_an_allowed_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    host = host_of(tmp_path, 'columns = ["uid", "agee"]')
    with pytest.raises(ConfigError, match=r"party\.toml allows column 'agee', which dataset people does not have; did"):
        readable({"": host.dataset("people")}, tmp_path)


# --- how often


def test_an_execution_counts_once_and_only_so_many_count(tmp_path: Path) -> None:
    host = host_of(tmp_path, "uses = 2")
    host.prepare_directories()
    for execution in ("one", "two", "one", "two"):
        host.count_uses(run_of(), execution)
    with pytest.raises(ConfigError, match="dataset people may be read by 2 executions, and has been; raise uses"):
        host.count_uses(run_of(), "three")
    again = PartyHost.load(tmp_path / "party.toml")
    again.count_uses(run_of(), "two")
    with pytest.raises(ConfigError, match="may be read by 2"):
        again.count_uses(run_of(), "three")
    assert (host.output_dir / ".uses" / "people").stat().st_mode & 0o777 == 0o600
    assert again.uses.taken("people") == 2


def test_uses_are_counted_right_by_many_processes_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from workers.host.policy import Uses; "
        "print(sum(Uses(Path(sys.argv[1])).take('x', f'{sys.argv[2]}-{n}', 25) for n in range(20)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "uses")]
    with ThreadPoolExecutor(4) as pool:
        taken = [*pool.map(lambda n: int(subprocess.check_output([*command, str(n)], cwd=ROOT)), range(4))]
    assert sum(taken) == 25
    assert Uses(tmp_path / "uses").taken("x") == 25


def test_a_count_that_a_crash_cut_off_counts(tmp_path: Path) -> None:
    uses = Uses(tmp_path)
    assert uses.take("x", "one", 3)
    with (tmp_path / "x").open("a") as file:
        file.write("tw")
    assert uses.take("x", "three", 3)
    assert not uses.take("x", "four", 3)
    assert uses.take("x", "one", 3)


# --- what is no plain file


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "link to a device", "link to nothing", "loop"])
def test_what_is_no_file_is_no_table(tmp_path: Path, kind: str) -> None:
    host = host_of(tmp_path)
    path = tmp_path / "people.csv"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        (tmp_path / "party.toml").write_text(TOML.replace("people.csv", "/dev/zero"))
        host = PartyHost.load(tmp_path / "party.toml")
    else:
        path.symlink_to({"link to a device": "/dev/zero", "link to nothing": "gone"}.get(kind, "people.csv"))
    with pytest.raises(ConfigError, match=r"the files? of dataset people (is|are) missing on this host"):
        readable({"": host.dataset("people")}, tmp_path)


def test_a_link_in_party_toml_is_the_operators_word(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    (tmp_path / "people.csv").rename(tmp_path / "elsewhere.csv")
    (tmp_path / "people.csv").symlink_to("elsewhere.csv")
    [table] = readable({"": host.dataset("people")}, tmp_path).values()
    assert set(column_types(table.path, "people")) == {"uid", "age", "diagnosis"}


def test_an_output_is_no_link(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    host.prepare_directories()
    (host.output_dir / "stolen.csv").symlink_to("/etc/passwd")
    with pytest.raises(ConfigError, match="has no dataset 'stolen'"):
        host.dataset("stolen")
    precious = tmp_path / "precious"
    precious.write_text("mine")
    precious.chmod(0o644)
    for name in ("common.csv", "common.kept", "common.origin.json", f"common.origin.{os.getpid()}"):
        (host.output_dir / name).symlink_to(precious)
    made = host.output_dir / "made"
    made.write_text(TABLE)
    with pytest.raises(OSError, match="symbolic links"):
        host.keep_output("common", made, "x")
    assert precious.read_text() == "mine"
    link = host.output_dir / "link"
    link.symlink_to(precious)
    with pytest.raises(AlgorithmError, match="symbolic link"):
        host.keep_output("common", link, "x")
    assert (precious.read_text(), precious.stat().st_mode & 0o077) == ("mine", 0o044)


def test_work_directories_follow_no_link(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    host.prepare_directories()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    (host.workdirs.root / "abandoned").symlink_to(precious)
    inside = host.workdirs.root / "inside"
    inside.mkdir()
    (inside / ".lock").symlink_to(tmp_path / "made-elsewhere")
    (inside / "link").symlink_to(precious)
    host.workdirs.remove_abandoned()
    assert (precious / "file").read_text() == "mine"
    assert not (tmp_path / "made-elsewhere").exists()
    work = host.workdirs.root
    for path in work.iterdir():
        path.unlink() if path.is_symlink() or path.is_file() else (path / ".lock").unlink()
    host.workdirs.remove_abandoned()
    assert not inside.exists()
    assert (precious / "file").read_text() == "mine"
    (work / ".lock").unlink()
    work.rmdir()
    work.symlink_to(precious)
    with pytest.raises(ConfigError, match="symbolic link"):
        host.workdirs.remove_abandoned()
    assert (precious / "file").read_text() == "mine"
