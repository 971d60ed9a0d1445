"""A host that is short of threads, processes or room says so, and is as before once it has them again."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from fixtures.documents import psi_documents
from tests.keys import introduce
from tests.workers.runtime.test_preflight_at_the_host import Answering, asked, desk_of, starter
from workers.contract.errors import ConfigError, ResourceError, classify
from workers.contract.keys import requests_of, stream_of, wanted
from workers.contract.reports import WANTED_SECONDS
from workers.host.party import PartyHost
from workers.runtime import desk as desks


@pytest.fixture
def host(tmp_path: Path) -> PartyHost:
    (tmp_path / "party.toml").write_text('party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n')
    introduce(tmp_path / "party.toml")
    return PartyHost.load(tmp_path / "party.toml")


def ask(connection: Redis) -> str:
    name = str(uuid4())
    connection.set(wanted(name), 1, ex=WANTED_SECONDS)
    connection.rpush(requests_of("alice"), asked({"documents": psi_documents()}, name))
    return name


def answers(connection: Redis) -> list[dict[str, Any]]:
    told: Any = connection.xrange(stream_of("alice"))
    entries = [json.loads(fields[b"preflight"]) for _, fields in told]
    return [entry for entry in entries if "checks" in entry]


def test_a_desk_outlives_a_shortage_of_threads_and_loses_no_request(
    host: PartyHost, connection: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(desks.time, "sleep", lambda _: None)
    tried: list[str] = []

    class Scarce(threading.Thread):
        def start(self) -> None:
            if self.name == "pre-flight check":
                tried.append("once more")
                if len(tried) < 4:
                    raise RuntimeError("can't start new thread")
            super().start()

    desk = desk_of(host, connection, starter(Answering({"checks": [], "facts": {}})))
    alive = threading.Event()
    alive.set()
    serving = threading.Thread(target=desk.serve, args=[alive])
    monkeypatch.setattr(desks.threading, "Thread", Scarce)
    name = ask(connection)
    serving.start()
    try:
        for _ in range(200):
            if answers(connection):
                break
            serving.join(0.05)
        assert [answer["preflight"] for answer in answers(connection)] == [name]
        assert len(tried) == 4
        assert caplog.text.count("could not be taken; the next one is tried") == 1
    finally:
        alive.clear()
        serving.join(10)


def test_a_check_whose_process_cannot_start_says_so_to_the_execution_and_shows_no_path(
    host: PartyHost, connection: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    class Full:
        def start(self, _: str) -> None:
            raise OSError(errno.EROFS, "Read-only file system", "/srv/alice/outputs/.work")

    made: Any = Full()
    desk = desk_of(host, connection, made)
    ask(connection)
    desk._answer(connection.lpop(requests_of("alice")))
    [said] = answers(connection)
    [check] = said["checks"]
    assert check["error_type"] == "ResourceError"
    assert check["error"] == (
        "no process for the checks can be started on this host (Read-only file system); see its worker's log"
    )
    assert "/srv/alice/outputs/.work" in caplog.text
    assert "Redis" not in caplog.text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), ResourceError),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ResourceError),
        (RuntimeError("can't start new thread"), ResourceError),
        (FileNotFoundError(errno.ENOENT, "No such file", "/srv/alice/secret_patients.csv"), ConfigError),
    ],
)
def test_a_shortage_in_a_run_is_told_and_tried_again_and_shows_no_path(error: Exception, kind: type) -> None:
    found = classify(error)
    assert type(found) is kind
    assert "secret_patients" not in str(found)


def test_a_removed_output_directory_is_made_anew_for_the_worker_s_user_alone(tmp_path: Path, host: PartyHost) -> None:
    host.workdirs.claim(host.workdirs.root / "process-1").close()
    assert host.output_dir.stat().st_mode & 0o077 == 0
    assert host.workdirs.root.stat().st_mode & 0o077 == 0
