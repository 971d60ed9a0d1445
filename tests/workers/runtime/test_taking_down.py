"""A run that went well holds its worker no longer than it must, whatever its links do at their end."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from tests.keys import introduce, stream
from tests.rules.base import dispatched
from workers.host.party import PartyHost
from workers.runtime.task_run import Runtime, TaskRun


@pytest.fixture
def run(tmp_path: Path, connection: Redis, monkeypatch: pytest.MonkeyPatch) -> TaskRun:
    path = tmp_path / "party.toml"
    path.write_text('party = "alice"\n[policy]\ntask_types = ["*"]\npeers = ["*"]\n')
    host = PartyHost.load(introduce(path))
    host.prepare_directories()
    execution, documents = str(uuid4()), dispatched()
    documents["sf_init_config"]["job_name"] = f"{execution}-1"
    monkeypatch.setattr(TaskRun, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(TaskRun, "TAKE_DOWN_SECONDS", 0.2)
    return TaskRun(Runtime(host, stream(connection, "alice"), "alice-1"), execution, documents)


class Device:
    """Whose end waits for a peer that is gone."""

    def __init__(self) -> None:
        self.over, self.stopped = threading.Event(), threading.Event()

    def stop(self) -> None:
        self.over.wait(20)
        self.stopped.set()


def test_links_that_cannot_be_taken_down_are_left_to_the_process_s_end(run: TaskRun) -> None:
    device: Any = Device()
    run.devices["spu"] = device
    begun = time.monotonic()
    run._end_session(None)
    assert time.monotonic() - begun < 5
    assert not device.stopped.is_set()
    device.over.set()


def test_links_that_can_be_taken_down_are_waited_for(run: TaskRun, monkeypatch: pytest.MonkeyPatch) -> None:
    device: Any = Device()
    device.over.set()
    run.devices["spu"] = device
    monkeypatch.setattr(TaskRun, "TAKE_DOWN_SECONDS", 20.0)
    taken_down = []
    engine = SimpleNamespace(shutdown=lambda: taken_down.append(device.stopped.is_set()))
    monkeypatch.setitem(sys.modules, "secretflow", engine)  # only that it is told to end is of interest here
    run._end_session(None)
    assert taken_down == [True]
