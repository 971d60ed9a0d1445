"""The logs of runs on a party's host: whole, private, bounded, and found by the beginning of an execution's id."""

from __future__ import annotations

import os
import threading
import time
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.keys import introduce
from workers.contract.errors import ConfigError
from workers.contract.run_name import RunName
from workers.host import run_logs
from workers.host.run_logs import RunLogs

EXECUTION = "0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e"


@pytest.fixture
def logs(tmp_path: Path) -> RunLogs:
    return RunLogs(tmp_path)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_logs, "FIRST_PART", 1000)
    monkeypatch.setattr(run_logs, "FURTHER_PART", 500)
    monkeypatch.setattr(run_logs, "MIB", 1)


def write(logs: RunLogs, *lines: str, attempt: int = 1, execution: str = EXECUTION) -> None:
    file = logs.open(RunName(execution, attempt))
    for line in lines:
        file.write(f"{line}\n".encode())
    file.close()


def test_a_log_is_kept_and_continued(logs: RunLogs) -> None:
    write(logs, "one", "two")
    write(logs, "three")
    path = logs.find("0b5e0b5e")
    assert list(logs.read(path)) == ["one", "two", "three"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_of_a_large_log_the_middle_is_left_out_and_said(logs: RunLogs, small: None) -> None:
    lines = [f"line {number:04}" for number in range(1000)]
    write(logs, *lines)
    kept = list(logs.read(logs.find(EXECUTION)))
    assert kept[:100] == lines[:100]
    assert kept[-50:] == lines[-50:]
    [note] = [line for line in kept if "left out here" in line]
    missing = int(note[1:].split()[0].replace(",", ""))
    assert missing + sum(len(line) + 1 for line in kept if line != note) == 10_000
    assert sum(path.stat().st_size for path in logs.directory.iterdir()) <= 2000
    write(logs, "one more")  # by another process of the same run
    assert list(logs.read(logs.find(EXECUTION)))[-2:] == [lines[-1], "one more"]


def test_a_log_is_found_by_the_beginning_of_the_id(logs: RunLogs) -> None:
    write(logs, "first")
    write(logs, "second", attempt=2)
    write(logs, "other", execution="0b5e1111-0b5e-4b5e-8b5e-0b5e0b5e0b5e")
    assert logs.find("0b5e0b5e").name.endswith("-2.log")
    assert list(logs.read(logs.find("0B5E0B5E", 1))) == ["first"]
    assert logs.attempts(logs.find("0b5e0b5e")) == [1, 2]
    for beginning, why in (("0b5e", "name more"), ("ffff", "there is no log"), ("0", "at least 4"), ("../x", "no log")):
        with pytest.raises(ConfigError, match=why):
            logs.find(beginning)


def test_old_logs_go(logs: RunLogs) -> None:
    write(logs, "old")
    write(logs, "new", attempt=2)
    old = logs.find(EXECUTION, 1)
    os.utime(old, (1, 1))
    logs.remove_old(30)
    assert not old.exists()
    assert logs.find(EXECUTION)


def test_a_full_disk_ends_nothing(logs: RunLogs) -> None:
    file = logs.open(RunName(EXECUTION, 1))
    assert file._file
    os.close(file._file.fileno())
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, file._file.fileno()) if full != file._file.fileno() else None
    file.write(b"x\n")


def test_a_link_is_not_followed(logs: RunLogs, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / f"{EXECUTION}-1.log").symlink_to(tmp_path / "elsewhere")
    write(logs, "x")
    assert (tmp_path / "elsewhere").read_text() == "mine"


# --- the command


@pytest.fixture
def host_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunLogs:
    path = tmp_path / "party.toml"
    path.write_text('party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n')
    introduce(path)
    monkeypatch.setattr("controlplane.host.management.commands.party.environment.party_toml", path)
    (tmp_path / "outputs" / ".logs").mkdir(parents=True)
    return RunLogs(tmp_path / "outputs" / ".logs")


def party(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("party", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_command_prints_a_log(host_logs: RunLogs) -> None:
    write(host_logs, "2026-11-30 17:33:04,528 INFO root: fine")
    write(host_logs, "2026-11-30 17:33:04,528 INFO root: fine", "2026-11-30 17:33:04,528 ERROR root: odd", attempt=2)
    out, err = party("logs", "0b5e0b5e")
    assert out.splitlines()[-1].endswith("ERROR root: odd")
    assert "attempts 1, too" in err
    assert party("logs", "0b5e0b5e", "--attempt", "1") == ("2026-11-30 17:33:04,528 INFO root: fine\n", "")
    assert party("logs", "0b5e0b5e", "--level", "WARNING")[0] == "2026-11-30 17:33:04,528 ERROR root: odd\n"
    with pytest.raises(CommandError, match="there is no log of execution 12345678"):
        party("logs", "12345678")


def test_a_reader_follows_a_log_into_its_next_part(logs: RunLogs, small: None) -> None:
    write(logs, "begin")
    found: list[str] = []
    reading = logs.read(logs.find(EXECUTION), follow=True)
    threading.Thread(target=lambda: found.extend(reading), daemon=True).start()
    write(logs, *["x" * 99] * 12, "end")
    until = time.monotonic() + 10
    while "end" not in found and time.monotonic() < until:
        time.sleep(0.05)
    assert (found[0], found[-1], len(found)) == ("begin", "end", 14)


def test_prune_removes_logs_that_are_old(host_logs: RunLogs) -> None:
    write(host_logs, "old")
    write(host_logs, "new", attempt=2)
    os.utime(host_logs.find(EXECUTION, 1), (1, 1))
    out, _ = party("prune", "--yes", "--wait", "0")
    assert "log of a run" in out
    assert host_logs.attempts(host_logs.find(EXECUTION)) == [2]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "The control plane gets nothing of the logs of runs; each is kept whole on this host for 30 days."),
        ('[logs]\nsend = "failure"\nlines = 50', "gets the last 50 lines of the log of a run that failed"),
        ('[logs]\nsend = "warning"', "of other software only level and place, as its texts may quote rows"),
        ('[logs]\nsend = "info"\ntext = "all"', "all texts included: for test data only"),
    ],
)
def test_people_are_told_what_leaves_the_host(host_logs: RunLogs, table: str, said: str) -> None:
    path = host_logs.directory.parents[1] / "party.toml"
    path.write_text(f"{path.read_text()}\n{table}\n")
    assert said in party("show")[0]
    assert said in party("check")[0]
