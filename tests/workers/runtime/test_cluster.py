"""The end of a run's links, where SecretFlow hangs in it; in a process apart, which ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from unittest.mock import patch

import pytest

from tests.parties import FORKS
from workers.network.links import LINKS_STAY

pytestmark = pytest.mark.pipeline

LIMIT = 30.0


def shut_down(shutdown: Callable[..., None], said: Connection) -> None:
    """With this in place of SecretFlow's own."""
    from secretflow.device import driver

    from workers.runtime.cluster import Cluster

    with patch("secretflow.shutdown", shutdown), patch.object(driver, "barrier", lambda: said.send("all are done")):
        cluster = Cluster.__new__(Cluster)
        cluster.END_SECONDS = 0.3
        cluster.shut_down(lambda: said.send("released"))
        said.send("shut down")


def hang(**_: bool) -> None:
    time.sleep(2 * LIMIT)


def end(**_: bool) -> None:
    pass


@pytest.mark.parametrize(
    ("shutdown", "words", "status"),
    [(hang, ["all are done", "released"], LINKS_STAY), (end, ["all are done", "shut down"], 0)],
)
def test_links_that_hang_as_they_end_keep_no_slot(shutdown: Callable[..., None], words: list[str], status: int) -> None:
    heard, said = FORKS.Pipe()
    process = FORKS.Process(target=shut_down, args=(shutdown, said), daemon=True)
    process.start()
    said.close()
    process.join(LIMIT)
    assert process.exitcode == status
    assert [heard.recv() for _ in words] == words
