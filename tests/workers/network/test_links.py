"""Links that hang as they connect, as brpc's do about once in some hundred times; faked, for nobody can make them."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest

from tests.parties import FORKS
from workers.network.links import LINK_LOST


def hang(*_: Any, **__: Any) -> None:
    time.sleep(60)


def fail_late(*_: Any, **__: Any) -> None:
    time.sleep(0.8)
    raise RuntimeError("the peer went away")


def fail_at_once(*_: Any, **__: Any) -> None:
    raise RuntimeError("the peer went away")


def connect(make: Callable[..., Any], seconds: float, said: Connection) -> None:
    """Make a link in this process by another function than brpc's."""
    import spu.libspu.link as link

    from workers.network import links

    links.CONNECT_SECONDS = seconds
    link.create_brpc = make
    links.prepare_links()
    try:
        link.create_brpc(link.Desc(), 0)
    except RuntimeError as error:
        said.send(str(error))


def end_of(make: Callable[..., Any], seconds: float) -> tuple[int | None, str]:
    """Exit status and last words of a process that connects."""
    mine, theirs = FORKS.Pipe()
    process = FORKS.Process(target=connect, args=(make, seconds, theirs), daemon=True)
    process.start()
    theirs.close()
    process.join(30)
    return process.exitcode, mine.recv() if mine.poll() and process.exitcode == 0 else ""


@pytest.mark.parametrize("make", [hang, fail_late])
def test_a_process_whose_link_hangs_ends_and_says_which_way(make: Callable[..., Any]) -> None:
    """Also where a peer gave up a moment before."""
    assert end_of(make, 0.5 if make is hang else 2.5) == (LINK_LOST, "")


def test_a_link_that_cannot_be_made_is_an_error_as_before() -> None:
    assert end_of(fail_at_once, 10) == (0, "the peer went away")
