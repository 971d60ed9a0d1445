"""The meeting before a run, over real sockets on the loopback interface, each party in a thread of its own."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.contract.endpoints import split
from workers.contract.errors import ConfigError, ResourceError
from workers.network import rendezvous
from workers.network.listening import check_free, listen
from workers.network.rendezvous import Met, meet
from workers.network.tls import KeyMaterial

#: No meeting of these tests takes longer than this, whatever its outcome.
LIMIT = 10.0


class Ports:
    """Bound, not listened on, so that nobody else is given them; SO_REUSEADDR lets a party of ours listen."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def take(self) -> str:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        self.sockets.append(held)
        return f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def ports() -> Iterator[Ports]:
    found = Ports()
    yield found
    for held in found.sockets:
        held.close()


class Party(threading.Thread):
    """A party at a meeting: how long it took, and how it ended."""

    def __init__(
        self,
        name: str,
        where: dict[str, str],
        *,
        job: str = "job-1",
        digest: str = "d",
        offer: str = "",
        timeout: float = 5,
        late: float = 0,
        tls: KeyMaterial | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self.listener = listener
        self.party, self.where, self.late = name, where, late
        self.job, self.digest, self.timeout, self.tls = job, digest, timeout, tls
        self.offer = offer
        self.certificates: dict[str, bytes] = {}
        self.offers: dict[str, str] = {}
        self.met: Met | None = None
        self.error: Exception | None = None
        self.ended_at = 0.0
        self.start()

    def run(self) -> None:
        time.sleep(self.late)
        peers = {p: a for p, a in self.where.items() if p != self.party}
        try:
            self.met = meet(
                self.party,
                self.where[self.party],
                peers,
                job_name=self.job,
                digest=self.digest,
                offer=self.offer,
                tls=self.tls,
                listener=self.listener,
                timeout=self.timeout,
            )
            self.certificates, self.offers = self.met.certificates, self.met.offers
        except Exception as error:
            self.error = error
        self.ended_at = time.monotonic()

    def outcome(self) -> str:
        """``met``, or the class of the error."""
        self.join(LIMIT)
        assert not self.is_alive(), f"{self.party} hangs"
        return type(self.error).__name__ if self.error else "met"


def greeting(party: str = "bob", job: str = "job-1", digest: str = "d") -> bytes:
    return json.dumps({"party": party, "job": job, "digest": digest}).encode() + b"\n"


def connect(address: str) -> socket.socket:
    """A connection to a party that may not listen yet."""
    end = time.monotonic() + LIMIT
    while True:
        try:
            return socket.create_connection(split(address), timeout=LIMIT)
        except ConnectionRefusedError:
            assert time.monotonic() < end, f"nobody listens at {address}"
            time.sleep(0.002)


@contextmanager
def impostor(address: str, answer: Callable[[socket.socket], object]) -> Iterator[None]:
    """Somebody else listens where a peer should be, and does this to every connection."""
    server = socket.create_server(split(address))
    server.settimeout(0.02)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            with suppress(OSError):
                accepted, _ = server.accept()
                with accepted:
                    answer(accepted)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join(LIMIT)
    server.close()
    assert not thread.is_alive()


def answering(said: bytes) -> Callable[[socket.socket], None]:
    """For an impostor: hears the greeting, says this, and waits for what comes back or the end."""

    def answer(caller: socket.socket) -> None:
        caller.settimeout(LIMIT)
        caller.recv(2048)
        caller.sendall(said)
        caller.recv(2048)

    return answer


# --- meeting


@pytest.mark.parametrize("names", [("alice", "bob"), ("alice", "bob", "carol"), ("a", "b", "c", "d", "e")])
def test_it_lets_the_parties_go_at_the_same_moment(ports: Ports, names: tuple[str, ...]) -> None:
    where = {name: ports.take() for name in names}
    parties = [Party(name, where) for name in names]
    assert [p.outcome() for p in parties] == ["met"] * len(names)
    ended = [p.ended_at for p in parties]
    assert max(ended) - min(ended) < 1


def test_everybody_is_told_what_the_others_offer(ports: Ports) -> None:
    where = {name: ports.take() for name in ("alice", "bob", "carol")}
    parties = [Party(name, where, offer=offer) for name, offer in zip(where, ("one", "two", ""), strict=True)]
    assert [p.outcome() for p in parties] == ["met"] * 3, "they may differ"
    assert [p.offers for p in parties] == [
        {"bob": "two", "carol": ""}, {"alice": "one", "carol": ""}, {"alice": "one", "bob": "two"},
    ]  # fmt: skip


@pytest.mark.parametrize("names", [("alice", "bob"), ("alice", "bob", "carol")])
def test_it_lets_nobody_go_before_the_last_one_has_come(ports: Ports, names: tuple[str, ...]) -> None:
    where = {name: ports.take() for name in names}
    early = [Party(name, where) for name in names[:-1]]
    time.sleep(0.3)
    assert all(p.is_alive() for p in early)
    assert [p.outcome() for p in [*early, Party(names[-1], where)]] == ["met"] * len(names)


def test_it_never_hangs_or_leaves_a_party_behind(ports: Ports) -> None:
    chance = random.Random(11)
    where = {name: ports.take() for name in ("alice", "bob", "carol")}
    for turn in range(60):
        # the same ports again and again, as leases are; two parties or three
        names = list(where)[: chance.choice((2, 3))]
        here = {name: where[name] for name in names}
        parties = [
            Party(name, here, job=f"job-{turn}", late=chance.choice((0, chance.random() * 0.04))) for name in names
        ]
        assert [p.outcome() for p in parties] == ["met"] * len(names), f"turn {turn}"


def test_it_frees_its_port_when_it_returns(ports: Ports) -> None:
    where = {"alice": ports.take(), "bob": ports.take()}
    parties = [Party("alice", where), Party("bob", where, late=0.2)]
    strangers = [connect(where["alice"]) for _ in range(3)]
    assert [p.outcome() for p in parties] == ["met", "met"]
    # what SecretFlow does next: open connections of strangers do not stand in its way
    for address in where.values():
        check_free(address)
    for stranger in strangers:
        stranger.close()


# --- disagreement


def test_it_tells_both_parties_that_their_documents_differ(ports: Ports) -> None:
    where = {"alice": ports.take(), "bob": ports.take()}
    alice, bob = Party("alice", where, digest="one"), Party("bob", where, digest="two", late=0.1)
    assert (alice.outcome(), bob.outcome()) == ("ConfigError", "ConfigError")
    assert str(alice.error) == "bob was sent other documents than alice"
    assert str(bob.error) == "alice was sent other documents than bob"


@pytest.mark.parametrize("turn", range(5))
def test_it_tells_all_of_three_parties_that_one_has_other_documents(ports: Ports, turn: int) -> None:
    where = {name: ports.take() for name in ("alice", "bob", "carol")}
    parties = [
        Party(n, where, digest=d, late=turn * 0.01 * i) for i, (n, d) in enumerate(zip(where, "112", strict=True))
    ]
    assert [p.outcome() for p in parties] == ["ConfigError"] * 3
    assert str(parties[0].error) == "carol was sent other documents than alice"


def test_it_says_that_documents_differ_although_a_third_party_is_missing(ports: Ports) -> None:
    where = {name: ports.take() for name in ("alice", "bob", "carol")}
    started = time.monotonic()
    parties = [Party("alice", where, digest="one"), Party("bob", where, digest="two")]
    assert [p.outcome() for p in parties] == ["ConfigError"] * 2
    assert time.monotonic() - started < 4


# --- strangers


@pytest.mark.parametrize(
    "said",
    [
        greeting(job="job-2") + rendezvous.THANKS,
        greeting("mallory", digest="other") + rendezvous.THANKS,
        greeting("alice") + rendezvous.THANKS,
        b"",
        b"\n",
        b"\xff\xfe\x00\n",
        b"GET / HTTP/1.1\r\nHost: alice\r\n\r\n",
        b"[" * 2000 + b"\n",
        b'{"party": ["bob"], "job": "job-1", "digest": "d"}\n',
        b'{"party": {}, "job": "job-1", "digest": "d"}\n',
        b'{"party": null}\n',
        b"[]\n",
        b'"bob"\n',
        b"x" * 100_000,
        b"9" * 2000 + b"\n",
    ],
    ids=lambda said: repr(said[:24]),
)
def test_it_is_not_harmed_by_a_stranger_on_its_port(ports: Ports, said: bytes) -> None:
    where = {"alice": ports.take(), "bob": ports.take()}
    alice = Party("alice", where)
    with connect(where["alice"]) as stranger, connect(where["alice"]) as hasty:
        for caller in (stranger, hasty):
            with suppress(OSError):  # it may hang up in the middle of a long line
                caller.sendall(said)
        hasty.close()
        time.sleep(0.05)
        assert alice.is_alive()
        bob = Party("bob", where)
        assert (alice.outcome(), bob.outcome()) == ("met", "met")


@settings(max_examples=25, deadline=None)
@given(lines=st.lists(st.binary(max_size=300) | st.sampled_from([greeting(job="x"), greeting("alice")]), max_size=4))
def test_it_takes_no_bytes_for_a_peer(lines: list[bytes]) -> None:
    found = Ports()
    where = {"alice": found.take(), "bob": found.take()}
    alice = Party("alice", where)
    strangers = [connect(where["alice"]) for _ in lines]
    for stranger, line in zip(strangers, lines, strict=True):
        stranger.sendall(line + b"\n")
    bob = Party("bob", where)
    assert (alice.outcome(), bob.outcome()) == ("met", "met")
    for held in [*strangers, *found.sockets]:
        held.close()


@pytest.mark.parametrize(
    "answer",
    [
        greeting("carol"),
        greeting(job="job-2"),
        b"[" * 2000 + b"\n",
        b'{"party": ["bob"], "job": "job-1", "digest": "d"}\n',
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"x" * 100_000,
        b"",
    ],
    ids=lambda said: repr(said[:24]),
)
def test_it_meets_a_peer_in_whose_place_somebody_else_answered(ports: Ports, answer: bytes) -> None:
    where = {name: ports.take() for name in ("alice", "bob", "carol")}
    with impostor(where["bob"], answering(answer)):
        early = [Party("alice", where), Party("carol", where)]
        time.sleep(0.2)
        assert all(p.is_alive() for p in early)
    assert [p.outcome() for p in [*early, Party("bob", where)]] == ["met"] * 3


def test_it_meets_a_peer_in_whose_place_somebody_said_nothing(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "ANSWER_SECONDS", 0.3)
    where = {"alice": ports.take(), "bob": ports.take()}
    silent: list[socket.socket] = []
    with impostor(where["bob"], lambda caller: silent.append(caller.dup())):
        alice = Party("alice", where)
        time.sleep(0.1)
    bob = Party("bob", where)
    assert (alice.outcome(), bob.outcome()) == ("met", "met")
    assert silent
    for held in silent:
        held.close()


# --- who does not come


@pytest.mark.parametrize(("present", "missing"), [(["alice"], "bob, carol"), (["alice", "bob"], "carol")])
def test_it_names_who_did_not_come_in_time(ports: Ports, present: list[str], missing: str) -> None:
    where = {name: ports.take() for name in ("alice", "bob", "carol")}
    started = time.monotonic()
    parties = [Party(name, where, timeout=0.4) for name in present]
    assert [p.outcome() for p in parties] == ["NetworkError"] * len(present)
    assert str(parties[0].error) == f"{missing} did not come to the meeting within 0.4 s"
    assert time.monotonic() - started < 4


def test_it_names_a_peer_of_another_run(ports: Ports) -> None:
    where = {"alice": ports.take(), "bob": ports.take()}
    alice, bob = Party("alice", where, timeout=0.4), Party("bob", where, job="job-2", timeout=0.4)
    assert (alice.outcome(), bob.outcome()) == ("NetworkError", "NetworkError")
    assert (str(alice.error).split()[0], str(bob.error).split()[0]) == ("bob", "alice")


def test_it_gives_up_in_time_on_a_peer_that_calls_but_cannot_be_called(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python 3.10's wait_for loses some cancellations: without a pause between calls most of them
    monkeypatch.setattr(rendezvous, "RETRY_SECONDS", 0)
    for _ in range(5):
        where = {"alice": ports.take(), "bob": ports.take()}
        alice = Party("alice", where, timeout=0.4)
        with connect(where["alice"]) as bob:
            bob.sendall(greeting() + rendezvous.THANKS)
            assert alice.outcome() == "NetworkError"


def test_it_does_not_count_a_call_whose_caller_gave_up(ports: Ports) -> None:
    """It was answered too late: the caller will call again and must find somebody there."""
    where = {"alice": ports.take(), "bob": ports.take()}
    with impostor(where["bob"], answering(greeting())):
        alice = Party("alice", where)
        with connect(where["alice"]) as bob:
            bob.sendall(greeting())
        time.sleep(0.3)
        assert alice.is_alive()
        with connect(where["alice"]) as bob:
            bob.sendall(greeting())
            assert json.loads(bob.recv(2048)) == {"party": "alice", "job": "job-1", "digest": "d", "offer": ""}
            bob.sendall(rendezvous.THANKS)
            assert alice.outcome() == "met"


def test_it_does_not_wait_for_a_name_that_cannot_be_resolved(ports: Ports) -> None:
    for host in ("no-such-host.invalid", "a..b", "x" * 64):
        alice = Party("alice", {"alice": ports.take(), "bob": f"{host}:9"}, timeout=0.3)
        assert alice.outcome() == "NetworkError"
        assert str(alice.error) == "bob did not come to the meeting within 0.3 s"


# --- its own port


@pytest.mark.parametrize("call", [check_free, listen, lambda address: meet("a", address, {}, job_name="j", digest="d")])
def test_it_says_which_port_is_taken(ports: Ports, call: Callable[[str], None]) -> None:
    address = ports.take()
    with socket.create_server(split(address)):
        port = split(address)[1]
        with pytest.raises(ResourceError, match=f"^port {port} is already in use on this host$"):
            call(address)
    for _ in range(3):
        call(address)


@pytest.mark.parametrize("call", [check_free, listen, lambda address: meet("a", address, {}, job_name="j", digest="d")])
@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("no-such-host.invalid", "cannot be resolved on this host"),
        ("a..b", "cannot be resolved on this host"),
        ("x" * 64, "cannot be resolved on this host"),
        ("192.0.2.1", r"cannot listen at the address registered for it \(Cannot assign requested address\)"),
    ],
)
def test_it_says_what_is_wrong_with_its_own_address(call: Callable[[str], None], host: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        call(f"{host}:20000")
    assert "set listen_host in party.toml" in str(caught.value)
    assert host not in str(caught.value)


def test_it_says_that_a_low_port_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # root may
    monkeypatch.setattr(rendezvous.socket.socket, "bind", refuse)
    with pytest.raises(ConfigError, match="may not listen on port 80; register a port range above 1023"):
        check_free("127.0.0.1:80")


@given(port=st.integers(1, 65535), host=st.sampled_from(["127.0.0.1", "alice.example", "[::1]", "[fe80::1]"]))
def test_it_splits_an_address(host: str, port: int) -> None:
    assert split(f"{host}:{port}") == (host.strip("[]"), port)
