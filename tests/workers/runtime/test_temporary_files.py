"""Temporary files, which hold rows, are their user's alone, and go at the next start however a worker ended."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import rq.job
from redis import Redis
from rq import Queue
from rq.job import Job

from controlplane.environment import ROOT
from fixtures.documents import psi_documents
from tests.keys import introduce
from workers.contract.run_name import RunName
from workers.host.party import PartyHost
from workers.runtime.next_process import NextProcess
from workers.runtime.starter import Starter
from workers.runtime.worker import PartyWorker

RUN = "0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e-1"
#: What a run does before it meets its peers, in a process with the umask of a shell; then it is killed.
PREPARE = """
import json, os, sys, time
from pathlib import Path
from unittest.mock import patch
from tests.keys import stream
from workers.host.party import PartyHost
from workers.runtime.task_run import Runtime, TaskRun
import redis

os.umask(0o022)
host, documents = PartyHost.load(sys.argv[1]), json.loads(sys.argv[3])

def meet(*_):
    (Path(os.environ["TMPDIR"]) / "rows-of-psi").write_text("p1")
    print("met", flush=True)
    time.sleep(60)

with patch.object(TaskRun, "_start_cluster", meet):
    runtime = Runtime(host, stream(redis.Redis.from_url(sys.argv[2]), "alice"), "alice-1")
    TaskRun(runtime, documents["sf_init_config"]["job_name"][:-2], documents).execute()
"""


@pytest.fixture
def host(tmp_path: Path) -> PartyHost:
    (tmp_path / "people.csv").write_bytes("uid,age\np1,1\n".encode("utf-16"))  # converted, for each run
    policy = (
        '[policy]\ntask_types = ["*"]\npeers = ["*"]\n[datasets.people]\npath = "people.csv"\nencoding = "utf-16"\n'
    )
    (tmp_path / "party.toml").write_text(f'party = "alice"\n{policy}')
    introduce(tmp_path / "party.toml")
    return PartyHost.load(tmp_path / "party.toml")


@pytest.fixture
def killed(host: PartyHost, tmp_path: Path) -> list[Path]:
    """The files of a run whose process was killed."""
    documents = psi_documents("people")
    documents["sf_init_config"] |= {
        "self_party": "alice",
        "job_name": RUN,
        "cluster": {"alice": {"address": "127.0.0.1:1"}, "bob": {"address": "127.0.0.1:2"}},
    }
    nodes = [{"party": party, "address": f"127.0.0.1:{port}"} for party, port in (("alice", 3), ("bob", 4))]
    documents["spu_config"] = {"nodes": nodes}
    command = [sys.executable, "-c", PREPARE, str(tmp_path / "party.toml"), os.environ["REDIS_URL"]]
    process = subprocess.Popen(
        [*command, json.dumps(documents)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stderr
    heard = process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert heard == "met\n", process.stderr.read()
    return [path for path in host.workdirs.of_run(RunName(RUN[:-2], 1)).rglob("*") if path.is_file()]


def test_they_are_private(host: PartyHost, killed: list[Path]) -> None:
    assert {path.name for path in killed} >= {"table_0.csv", "rows-of-psi"}
    for path in killed:
        around = [place for place in path.parents if place.is_relative_to(host.output_dir)]
        assert around
        assert not [place for place in around if stat.S_IMODE(place.stat().st_mode) & 0o077], path


def test_they_go_at_the_next_start(
    host: PartyHost, killed: list[Path], tmp_path: Path, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert killed
    monkeypatch.setenv("PARTY_TOML", str(tmp_path / "party.toml"))
    # PartyWorker closes it anew; what it was comes back afterwards
    monkeypatch.setattr(rq.job, "import_attribute", rq.job.import_attribute)
    monkeypatch.setattr(Job, "send_webhooks", Job.send_webhooks)
    with host.workdirs.claim(host.workdirs.root / "of-another-worker") as lock:
        monkeypatch.setattr(NextProcess, "start", lambda waiting: None)
        worker = PartyWorker([Queue("alice", connection=connection)], connection=connection)
        with pytest.raises(Exception, match="SecretFlow could not be started"):
            worker.bootstrap()
        worker._starter.close()
        assert [path.name for path in host.workdirs.root.iterdir() if path.is_dir()] == ["of-another-worker"]
        assert lock
    assert not [path for path in killed if path.exists()]


def test_what_native_code_writes_is_private(host: PartyHost) -> None:
    host.prepare_directories()
    starter = Starter("alice-1", os.environ["REDIS_URL"], host)
    process = starter.start()
    try:
        assert process.is_ready(60)
        status = Path(f"/proc/{process.process.pid}/status").read_text()
        assert "\nUmask:\t0077\n" in status
    finally:
        process.close()
        starter.close()
