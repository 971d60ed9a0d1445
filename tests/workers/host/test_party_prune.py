"""``manage.py party prune``: what nobody needs any more goes from a party host, and nothing else."""

from __future__ import annotations

import builtins
import os
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from redis import Redis

from controlplane.environment import environment
from controlplane.models import Dataset, Party
from executions.coordinator.listener import Listener
from executions.models import PartyRun, PipelineRun
from executions.states import PipelineStatus, Status
from tests.composed import PSI, copy_of_task, make_execution, make_pipeline, make_task
from tests.keys import introduce
from workers.contract.keys import stream_of
from workers.contract.run_name import RunName
from workers.host.outputs import note_of, remove_output
from workers.host.party import PartyHost
from workers.host.stream import Stream
from workers.runtime import leftovers
from workers.runtime.journal import Journal

TOML = 'party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n[datasets.customers]\npath = "outputs/mine.csv"\n'
DAYS_40 = 40 * 86_400


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PartyHost:
    (tmp_path / "party.toml").write_text(TOML)
    introduce(tmp_path / "party.toml")
    monkeypatch.setattr(environment, "party_toml", tmp_path / "party.toml")
    found = PartyHost.load(tmp_path / "party.toml")
    found.prepare_directories()
    return found


@pytest.fixture
def coordinated(connection: Redis, parties: dict[str, Party], monkeypatch: pytest.MonkeyPatch) -> None:
    """A coordinator reads what is asked at once; beside the tests another process would not see their database."""
    sending, listener = Stream.report, Listener(connection)

    def report(*args: Any) -> None:
        sending(*args)
        while connection.xlen(stream_of("alice")):
            listener.step()

    monkeypatch.setattr(Stream, "report", report)


def age(path: Path, seconds: float = DAYS_40) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def keep(host: PartyHost, *names: str) -> None:
    for name in names:
        source = host.workdirs.root / "result"
        source.write_text("uid\na\n")
        host.keep_output(name, source, "execution-1")
        age(host.output_dir / f"{name}.csv")


def prune(*arguments: str) -> str:
    out = StringIO()
    call_command("party", "prune", *arguments, stdout=out)
    return out.getvalue()


def outputs(host: PartyHost) -> set[str]:
    return {path.name for path in host.output_dir.iterdir() if path.is_file()}


# --- what the host can tell by itself


def journal(host: PartyHost, name: str, *, late: bool = False, seconds: float = DAYS_40) -> Path:
    book = Journal(host.journal_dir)
    book.append(f"{name}.jsonl", ["{}"])
    if late:
        book.mark_late(f"{name}.jsonl", 0)
    return age(host.journal_dir / f"{name}.jsonl", seconds)


def test_old_journals_go_with_their_notes_and_those_of_running_jobs_stay(host: PartyHost) -> None:
    old, late = journal(host, "a-1"), journal(host, "b-1", late=True)
    young, running = journal(host, "c-1", seconds=86_400), journal(host, "d-1", late=True)
    lock = host.workdirs.claim(host.workdirs.of_run(RunName("d", 1)))
    said = prune("--yes")
    lock.close()
    assert "delivered events" in said
    assert "events that the control plane never took" in said
    assert not old.exists()
    assert not late.exists()
    assert not late.with_suffix(".late").exists()
    assert young.exists()
    assert running.exists()
    assert running.with_suffix(".late").exists()


def test_a_journal_that_is_written_to_in_this_moment_stays(host: PartyHost) -> None:
    path = journal(host, "a-1")
    [found] = leftovers.Leftovers(host, 86_400).files()
    Journal(host.journal_dir).append("a-1.jsonl", ["{}"])
    assert not found.remove()
    assert path.exists()


def test_directories_of_dead_processes_and_notes_without_an_output_go(host: PartyHost) -> None:
    dead, alive = host.workdirs.of_run(RunName("a", 1)), host.workdirs.of_run(RunName("b", 1))
    host.workdirs.claim(dead).close()
    (dead / "rows.csv").write_text("x" * 1000)
    lock = host.workdirs.claim(alive)
    note = age(_write(note_of(host.output_dir / "gone.csv")))
    said = prune("--yes")
    lock.close()
    assert "1.0 kB" in said
    assert "removed 2 of 2" in said
    assert not dead.exists()
    assert alive.exists()
    assert not note.exists()


def _write(path: Path) -> Path:
    path.write_text("{}")
    return path


def test_it_asks_first_and_a_dry_run_only_lists(host: PartyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    path = journal(host, "a-1")
    asked = []

    def answer(question: str) -> str:
        asked.append(question)
        if len(asked) == 1:
            raise EOFError
        return ["", "n", "y"][len(asked) - 2]

    monkeypatch.setattr(builtins, "input", answer)
    assert "a-1.jsonl" in prune("--dry-run")
    assert asked == []
    for _ in range(3):
        with pytest.raises(CommandError, match=r"Nothing was removed\."):
            prune()
        assert path.exists()
    assert "removed 1 of 1" in prune()
    assert asked == ["Remove these 1 (3 bytes)? [y/N] "] * 4
    assert prune() == "nothing is left over\n"


def test_it_is_refused_to_another_user(host: PartyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    path = journal(host, "a-1")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(CommandError, match="the user who runs the worker"):
        prune("--yes")
    assert path.exists()


# --- outputs


@pytest.mark.django_db
def test_outputs_go_that_nothing_names(host: PartyHost, coordinated: None, parties: dict[str, Party]) -> None:
    keep(host, "unnamed", "registered", "of_bob", "in_a_task", "mine")
    (host.output_dir / "unnamed.txt").write_text("somebody's own")
    keep(host, "young")
    age(host.output_dir / "young.csv", 86_400)
    Dataset.objects.create(party=parties["alice"], name="registered", columns={"uid": "str"})
    Dataset.objects.create(party=parties["bob"], name="of_bob", columns={"uid": "str"})
    copy_of_task(make_task(), "another", outputs={"alice": "in_a_task", "bob": "x"})
    said = prune("--yes")
    assert "removed 2 of 2" in said
    assert {name for name in outputs(host) if not name.endswith(".origin.json")} == {
        "registered.csv", "in_a_task.csv", "mine.csv", "young.csv", "unnamed.txt"
    }  # fmt: skip
    assert not note_of(host.output_dir / "unnamed.csv").exists()
    assert note_of(host.output_dir / "registered.csv").exists()
    assert not any(path.name.startswith("prune") for path in host.workdirs.root.iterdir())


@pytest.mark.django_db
@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.RETRY, Status.CANCELLED])
def test_what_an_execution_reads_or_makes_stays_until_it_is_over(
    host: PartyHost, coordinated: None, parties: dict[str, Party], status: Status
) -> None:
    keep(host, "made")
    task = make_task()
    execution = make_execution(
        status=status, documents=task.documents() | {"task_config": PSI | {"outputs": {"alice": "made"}}}
    )
    if status == Status.CANCELLED:  # its process may be there for a while
        PartyRun.objects.create(execution=execution, party=parties["alice"], attempt=1, job_id="j")
    assert prune("--yes") == "nothing is left over\n"
    type(execution).objects.update(status=Status.CANCELLED)
    PartyRun.objects.update(released_at=timezone.now())
    assert "removed 1 of 1" in prune("--yes")


@pytest.mark.django_db
def test_what_a_live_pipeline_run_will_use_stays(host: PartyHost, coordinated: None) -> None:
    keep(host, "made")
    task = make_task()
    run = PipelineRun.objects.submit(make_pipeline(only="customers-psi"))
    run.nodes.update(documents=task.documents() | {"task_config": PSI | {"outputs": {"alice": "made"}}})
    assert prune("--yes") == "nothing is left over\n"
    PipelineRun.objects.update(status=PipelineStatus.FAILURE)
    assert "removed 1 of 1" in prune("--yes")


@pytest.mark.django_db
def test_without_an_answer_outputs_stay(host: PartyHost, connection: Redis) -> None:
    keep(host, "unnamed")
    path = journal(host, "a-1")
    with pytest.raises(CommandError, match=r"no coordinator answered within 0\.1 s for 1 outputs, which were left"):
        prune("--yes", "--wait", "0.1")
    assert not path.exists()
    assert (host.output_dir / "unnamed.csv").exists()
    assert prune("--yes", "--wait", "0") == "nothing is left over\n"


@pytest.mark.django_db
def test_without_redis_outputs_stay(host: PartyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "redis_url", "redis://127.0.0.1:1/0")
    keep(host, "unnamed")
    with pytest.raises(CommandError, match=r"Redis is not reachable.*All outputs were left"):
        prune("--yes")
    assert (host.output_dir / "unnamed.csv").exists()


@pytest.mark.django_db
def test_many_outputs_are_asked_for_in_several_reports(
    host: PartyHost, coordinated: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "MOST_DATASETS", 2)
    keep(host, "a", "b", "c", "d", "e")
    assert "removed 5 of 5" in prune("--yes")


def test_an_output_that_a_run_replaces_in_this_moment_stays(host: PartyHost, tmp_path: Path) -> None:
    keep(host, "common")
    path = host.output_dir / "common.csv"
    seen = path.stat()
    source = host.workdirs.root / "result"
    source.write_text("uid\nb\nc\n")
    host.keep_output("common", source, "execution-2", alignment="execution-2-1")
    assert not remove_output(path, seen, tmp_path)
    assert path.read_text() == "uid\nb\nc\n"
    assert host.dataset("common").alignment == "execution-2-1"
    assert remove_output(path, path.stat(), tmp_path)
    assert not path.exists()
    assert not note_of(path).exists()
