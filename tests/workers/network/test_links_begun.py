"""A link that was begun is the one SecretFlow gets when it asks: with the real link library, in a process apart."""

from __future__ import annotations

import threading
from multiprocessing.connection import Connection
from typing import Any

import pytest

from tests.parties import FORKS
from tests.workers.network.test_rendezvous import Ports

pytestmark = pytest.mark.pipeline

LIMIT = 60.0


def make_links(talk: Connection, addresses: list[str]) -> None:
    """Both parties' links of one SPU, begun and asked for; and those of another one that nobody begins."""
    import spu.libspu.link as link

    from workers.network import links

    links.prepare_links()

    def described(hosts: list[str]) -> Any:
        found = link.Desc()
        for rank, host in enumerate(hosts):
            found.add_party(f"party-{rank}", host)
        return found

    begun = []
    for rank in (0, 1):
        links.begin_link(described(addresses[:2]), rank)
        begun.append(next(reversed(links._begun.values())))
    asked = [link.create_brpc(described(addresses[:2]), rank) for rank in (0, 1)]
    is_same = [one is future.result() for one, future in zip(asked, begun, strict=True)]
    others: dict[int, Any] = {}

    def make_other(rank: int) -> None:
        others[rank] = link.create_brpc(described(addresses[2:]), rank)

    threads = [threading.Thread(target=make_other, args=[rank]) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    occupied = link.Desc()
    occupied.add_party("party-0", addresses[0])
    links.begin_link(occupied, 0)
    try:
        link.create_brpc(occupied, 0)
        error = ""
    except Exception as raised:
        error = type(raised).__name__
    talk.send({"same": is_same, "left": len(links._begun), "others": sorted(others), "error": error})


def test_whoever_asks_gets_the_link_that_was_begun_or_its_error() -> None:
    ports = Ports()
    ours, theirs = FORKS.Pipe()
    process = FORKS.Process(target=make_links, args=(theirs, [ports.take() for _ in range(4)]), daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.poll(LIMIT), "no answer"
        said = ours.recv()
    finally:
        process.kill()
        process.join(LIMIT)
        for held in ports.sockets:
            held.close()
    assert said == {"same": [True, True], "left": 0, "others": [0, 1], "error": "RuntimeError"}
