"""The listener that lets TLS alone through, over real sockets; what is behind it is an echo."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.workers.network.test_rendezvous import LIMIT, Ports
from tests.workers.network.test_rendezvous import ports as ports
from workers.contract.endpoints import split
from workers.contract.errors import ResourceError
from workers.network import tls_door
from workers.network.listening import listen
from workers.network.tls_door import TLSDoor

#: How a client's hello begins; what comes after it only the server looks at.
HELLO = bytes([0x16, 3, 1, 2, 0, 1]) + b" and so on"


class Echo(threading.Thread):
    """A server on a Unix socket that sends everything back, and counts its callers."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.callers = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.start()

    def run(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self.listener.accept()
                self.callers += 1
                threading.Thread(target=self._echo, args=(caller,), daemon=True).start()

    def _echo(self, caller: socket.socket) -> None:
        with caller, suppress(OSError):
            while chunk := caller.recv(65536):
                caller.sendall(chunk)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "server.sock"


@pytest.fixture
def address(ports: Ports, place: Path) -> Iterator[str]:
    """A door's, with nothing behind it yet."""
    address = ports.take()
    door = TLSDoor(listen(address), place.name)
    yield address
    door.close()


def call(address: str) -> socket.socket:
    caller = socket.create_connection(split(address), timeout=LIMIT)
    caller.settimeout(LIMIT)
    return caller


def read(caller: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (chunk := caller.recv(count - len(found))):
        found += chunk
    return found


def test_it_passes_on_all_that_begins_with_a_handshake(address: str, place: Path) -> None:
    Echo(place)
    sent = HELLO + bytes(range(256)) * 20_000
    with call(address) as caller:
        threading.Thread(target=caller.sendall, args=(sent,), daemon=True).start()
        assert read(caller, len(sent)) == sent
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(1) == b"", "the end is passed on, too"


def test_it_takes_a_hello_that_comes_byte_by_byte(address: str, place: Path) -> None:
    Echo(place)
    with call(address) as caller:
        for byte in HELLO:
            caller.send(bytes([byte]))
            time.sleep(0.01)
        assert read(caller, len(HELLO)) == HELLO


def test_it_waits_for_a_server_that_begins_to_listen_later(address: str, place: Path) -> None:
    with call(address) as caller:
        caller.sendall(HELLO)
        time.sleep(0.2)
        Echo(place)
        assert read(caller, len(HELLO)) == HELLO


@pytest.mark.parametrize(
    "said",
    [
        b"PRPC\0\0\0\x10\0\0\0\0",
        b"POST / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes([0x16, 3, 1, 2, 0, 2]) + b"a handshake, but no hello: brpc takes it for cleartext",
        bytes([0x80, 0x2E, 1, 0, 2, 0]) + b"SSL 2",
        bytes([0x17, 3, 1, 2, 0, 1]),
    ],
    ids=lambda said: repr(said[:8]),
)
def test_it_hangs_up_on_everything_else(address: str, place: Path, said: bytes) -> None:
    server = Echo(place)
    with call(address) as caller:
        caller.sendall(said)
        with suppress(ConnectionResetError):
            assert caller.recv(100) == b""
    assert server.callers == 0


def test_it_hangs_up_on_who_says_nothing(address: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_door, "PATIENCE_SECONDS", 0.2)
    server = Echo(place)
    with call(address) as silent, call(address) as halting:
        halting.sendall(HELLO[:5])
        for caller in (silent, halting):
            with suppress(ConnectionResetError):
                assert caller.recv(100) == b""
    assert server.callers == 0


def test_strangers_do_not_keep_a_peer_out(address: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Echo(place)
    silent = [call(address) for _ in range(50)]
    with call(address) as caller:
        caller.sendall(HELLO)
        assert read(caller, len(HELLO)) == HELLO
    for stranger in silent:
        stranger.close()


def test_it_has_a_limit_and_makes_room_again(ports: Ports, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_door, "MAX_CONNECTIONS", 2)
    Echo(place)
    address = ports.take()
    door = TLSDoor(listen(address), place.name)
    first, second = call(address), call(address)
    for caller in (first, second):
        caller.sendall(HELLO)
        assert read(caller, len(HELLO)) == HELLO
    with call(address) as third, suppress(ConnectionResetError):
        assert third.recv(1) == b""
    first.close()
    end = time.monotonic() + LIMIT
    while True:
        with call(address) as fourth, suppress(ConnectionError):
            fourth.sendall(HELLO)
            if read(fourth, len(HELLO)) == HELLO:
                break
        assert time.monotonic() < end, "no room again"
    second.close()
    door.close()


def test_who_fills_it_keeps_out_only_its_own_address(
    address: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers that go on to say hello, and no more."""
    monkeypatch.setattr(tls_door, "MAX_CONNECTIONS", 40)
    monkeypatch.setattr(tls_door, "MAX_FROM_ONE", 20)
    Echo(place)
    strangers = [socket.create_connection(split(address), source_address=("127.0.0.2", 0)) for _ in range(60)]
    for stranger in strangers:
        with suppress(OSError):
            stranger.sendall(HELLO)
    with call(address) as caller:
        caller.sendall(HELLO)
        assert read(caller, len(HELLO)) == HELLO
    for stranger in strangers:
        stranger.close()


RECORD = bytes([0x17, 3, 3, 0, 4]) + b"made"
WHOLE_HELLO = HELLO[:3] + (len(HELLO) - 5).to_bytes(2, "big") + HELLO[5:]


@pytest.mark.parametrize(
    "after",
    [b"", RECORD[:3], RECORD[:-1], bytes([0x14, 3, 3, 0, 1, 1]), bytes([0x17, 3, 3, 0x40, 0]) + b"x" * 300],
    ids=["nothing", "half a header", "half a record", "a record that says nothing", "the beginning of a long one"],
)
def test_it_hangs_up_on_who_does_not_finish_its_handshake(
    address: str, place: Path, monkeypatch: pytest.MonkeyPatch, after: bytes
) -> None:
    monkeypatch.setattr(tls_door, "HANDSHAKE_SECONDS", 0.3)
    Echo(place)
    with call(address) as caller:
        caller.sendall(WHOLE_HELLO + after)
        assert read(caller, len(WHOLE_HELLO + after) + 1) == WHOLE_HELLO + after, "it was passed on, and then hung up"


def test_it_leaves_those_alone_who_finished_their_handshake(
    address: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_door, "HANDSHAKE_SECONDS", 0.3)
    Echo(place)
    with call(address) as caller:
        for part in (WHOLE_HELLO, bytes([0x14, 3, 3, 0, 1, 1]), RECORD[:4], RECORD[4:]):
            caller.sendall(part)
            assert read(caller, len(part)) == part
        time.sleep(0.6)
        caller.sendall(b"later")
        assert read(caller, 5) == b"later"


def test_it_frees_its_port_when_it_is_closed(ports: Ports, place: Path) -> None:
    address = ports.take()
    for _ in range(3):
        TLSDoor(listen(address), place.name).close()
    with socket.create_server(split(address)), pytest.raises(ResourceError, match="is already in use on this host"):
        listen(address)


def test_a_port_that_it_gave_back_serves_another_process_while_its_connections_go_on(ports: Ports, place: Path) -> None:
    Echo(place)
    address = ports.take()
    door = TLSDoor(listen(address), place.name)
    with call(address) as caller:
        caller.sendall(HELLO)
        assert read(caller, len(HELLO)) == HELLO
        door.close()
        with listen(address) as next_one, call(address) as other:
            assert next_one.accept()[1] == other.getsockname()
            caller.sendall(b"the last answer")
            assert read(caller, 15) == b"the last answer"
