"""The end of a run's links, where SecretFlow hangs in it; in a process apart, which ends."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch

import pytest

from tests.parties import FORKS
from workers.runtime.compute_process import LINKS_STAY

pytestmark = pytest.mark.pipeline

LIMIT = 30.0


class Stuck:
    """A device whose end is a call into C that keeps Python's lock."""

    def stop(self) -> None:
        ctypes.PyDLL(None).sleep(int(2 * LIMIT))


class Quick:
    def stop(self) -> None:
        pass


def shut_down(device: type[Any], shutdown: Callable[..., None], said: Connection) -> None:
    """With this in place of SecretFlow's own."""
    from secretflow.device import driver

    from workers.runtime.cluster import Cluster

    with patch("secretflow.shutdown", shutdown), patch.object(driver, "barrier", lambda: said.send("all are done")):
        cluster = Cluster.__new__(Cluster)
        cluster.END_SECONDS = 0.3
        cluster.shut_down([device()])
        said.send("shut down")
        time.sleep(0.6)  # nothing ends it afterwards


def hang(**_: bool) -> None:
    time.sleep(2 * LIMIT)


def hang_with_the_lock(**_: bool) -> None:
    Stuck().stop()


def end(**_: bool) -> None:
    pass


@pytest.mark.parametrize(
    ("device", "shutdown", "words", "status"),
    [
        (Quick, hang, ["all are done"], -LINKS_STAY),
        (Quick, hang_with_the_lock, ["all are done"], -LINKS_STAY),
        (Stuck, end, ["all are done"], -LINKS_STAY),
        (Quick, end, ["all are done", "shut down"], 0),
    ],
)
def test_links_that_hang_as_they_end_keep_no_slot(
    device: type[Any], shutdown: Callable[..., None], words: list[str], status: int
) -> None:
    heard, said = FORKS.Pipe()
    process = FORKS.Process(target=shut_down, args=(device, shutdown, said), daemon=True)
    process.start()
    said.close()
    process.join(LIMIT)
    assert process.exitcode == status
    assert [heard.recv() for _ in words] == words
