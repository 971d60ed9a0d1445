"""SecretFlow's own links over TLS, each by itself: two bare sessions without the meeting that ours begin with.

What a link refuses here is refused by that link. See tests.one_party for what the parties do.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import grpc
import pytest

from executions.trial.certificates import TrialCA
from tests import one_party
from tests.one_party import PLANTED
from tests.parties import FORKS
from tests.workers.network.test_rendezvous import Ports, connect
from tests.workers.network.test_rendezvous import ports as ports
from workers.contract.endpoints import split
from workers.network.run_certificate import RunCertificate
from workers.network.tls import KeyMaterial

pytestmark = pytest.mark.pipeline

LIMIT = 60.0
NAMES = ("alice", "bob")
Files = KeyMaterial | None
COMPARE = "compare the certificates and the CA that the parties use"


class Tap(threading.Thread):
    """Passes a party's connections on to it, and records what goes by."""

    def __init__(self, address: str, target: str) -> None:
        super().__init__(daemon=True)
        self.target, self.seen = target, bytearray()
        self.listener = socket.create_server(split(address))
        self.start()

    def run(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        try:
            server = connect(self.target)
        except (AssertionError, OSError):  # it never came, or is gone: so is the connection to it
            caller.close()
            return
        threading.Thread(target=self._pass_on, args=(server, caller), daemon=True).start()
        self._pass_on(caller, server)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                self.seen += chunk
                target.sendall(chunk)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


class Session:
    """The processes of a session of alice and bob."""

    def __init__(self, directory: Path, ports: Ports, backend: str) -> None:
        self.directory, self.backend = directory, backend
        self.at = {name: ports.take() for name in NAMES}
        self.nodes = [{"party": name, "address": ports.take()} for name in NAMES]
        self.taps = {name: Tap(ports.take(), self.at[name]) for name in NAMES}
        #: Whether bob sends a message that runs code where it is read.
        self.crafted = False
        self.processes: dict[str, BaseProcess] = {}
        self.talks: dict[str, Connection] = {}

    def start(self, name: str, tls: Files, spu_tls: Files | str = "same") -> None:
        (self.directory / name).mkdir()
        cluster = {p: {"address": self.at[p] if p == name else _address(self.taps[p].listener)} for p in NAMES}
        part = {
            "party": name, "directory": str(self.directory / name), "backend": self.backend, "cluster": cluster,
            "nodes": self.nodes, "tls": _paths(tls), "spu_tls": _paths(tls if isinstance(spu_tls, str) else spu_tls),
            "crafted": self.crafted,
        }  # fmt: skip
        self.talks[name], theirs = FORKS.Pipe()
        log = self.directory / f"{name}.log"
        self.processes[name] = FORKS.Process(target=one_party.main, args=(theirs, part, log), daemon=True)
        self.processes[name].start()
        theirs.close()

    def go(self, *names: str) -> None:
        """Let the parties begin, at the same moment."""
        for name in names:
            assert self.hear(name) == "ready"
        for name in names:
            self.talks[name].send("go")

    def outcomes(self) -> dict[str, list[str]]:
        """What each party said, and that all have ended."""
        said = {name: list(iter(partial(self.hear, name), "")) for name in self.processes}
        for process in self.processes.values():
            process.join(LIMIT)
            assert process.exitcode is not None  # 255 where the other one was gone first
        return said

    def hear(self, name: str) -> str:
        """What it says next; nothing once it has ended."""
        assert self.talks[name].poll(LIMIT), f"{name} says nothing"
        try:
            return str(self.talks[name].recv())
        except EOFError:
            return ""

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        for name, process in self.processes.items():
            process.kill()
            process.join(LIMIT)
            self.talks[name].close()
        for tap in self.taps.values():
            tap.listener.close()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"{host}:{port}"


def _paths(files: Files) -> dict[str, str] | None:
    return {name: str(path) for name, path in asdict(files).items()} if files else None


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """Each party's own; ``foreign``: bob's of another CA, who would take alice's; ``clear``: none."""
    authority = TrialCA(tmp_path_factory.mktemp("ca"))
    foreign = TrialCA(tmp_path_factory.mktemp("foreign"), "foreign CA").certify("bob")
    made: dict[str, Files] = {name: authority.certify(name) for name in (*NAMES, "carol")}
    return made | {"foreign": replace(foreign, ca=authority.path), "clear": None}


@pytest.fixture
def of_the_run(tmp_path: Path) -> dict[str, Files]:
    """What alice and bob have told each other at a meeting."""
    own = {name: RunCertificate(name) for name in NAMES}
    made: dict[str, Files] = {}
    for name, peer in (NAMES, NAMES[::-1]):
        (tmp_path / "tls" / name).mkdir(parents=True)
        made[name] = own[name].write(tmp_path / "tls" / name, {peer: own[peer].der})
    return made


@pytest.fixture(params=["brpc_link", "grpc"])
def session(request: pytest.FixtureRequest, tmp_path: Path, ports: Ports) -> Iterator[Session]:
    made = Session(tmp_path, ports, request.param)
    yield made
    made.stop()


@pytest.mark.parametrize("over", ["tls", "cleartext"])
def test_nobody_between_the_parties_reads_along_over_tls(session: Session, files: dict[str, Files], over: str) -> None:
    for name in NAMES:
        session.start(name, files[name] if over == "tls" else None)
    session.go(*NAMES)
    assert session.outcomes() == {name: ["cluster", "spu"] for name in NAMES}, session.log("alice")
    for name in NAMES:
        assert len(session.taps[name].seen) > len(PLANTED)
        assert (PLANTED.encode() in session.taps[name].seen) == (over == "cleartext")


def test_links_work_with_certificates_of_the_run_alone(session: Session, of_the_run: dict[str, Files]) -> None:
    for name in NAMES:
        session.start(name, of_the_run[name])
    session.go(*NAMES)
    assert session.outcomes() == {name: ["cluster", "spu"] for name in NAMES}, session.log("alice")
    assert all(PLANTED.encode() not in tap.seen for tap in session.taps.values())


def test_links_of_a_run_refuse_every_other_certificate_of_the_ca(
    session: Session, files: dict[str, Files], of_the_run: dict[str, Files]
) -> None:
    """Also the peer's own: at the links of this run that of the run counts alone."""
    session.start("alice", of_the_run["alice"])
    session.go("alice")
    push = _push_to_brpc if session.backend == "brpc_link" else _push_to_grpc
    connect(session.at["alice"]).close()
    bob = of_the_run["bob"]
    assert bob
    # They know alice's certificate of the run, and believe it
    others: dict[str, Files] = {name: replace(tls, ca=bob.ca) for name, tls in files.items() if tls}
    for caller in ("carol", "bob", "alice", "foreign"):
        assert not push(session.at["alice"], caller, others), caller
    assert push(session.at["alice"], "bob", {"alice": bob, "bob": bob})


@pytest.mark.parametrize("bobs", ["foreign", "clear"])
def test_the_cross_silo_link_refuses_strangers(session: Session, files: dict[str, Files], bobs: str) -> None:
    session.start("alice", files["alice"])
    session.start("bob", files[bobs])
    session.go(*NAMES)
    outcomes = session.outcomes()
    for said in outcomes.values():
        assert len(said) == 1
        assert said[0].startswith("failed "), said
    assert PLANTED.encode() not in session.taps["bob"].seen, "what alice has for bob"
    if session.backend == "grpc":  # brpc says no more than that the link did not come up
        assert outcomes["alice"] == ["failed ConfigError the TLS handshake with a peer failed; " + COMPARE]


@pytest.mark.parametrize("session", ["brpc_link"], indirect=True)
@pytest.mark.parametrize("bobs", ["foreign", "clear"])
def test_the_spu_link_refuses_strangers(session: Session, files: dict[str, Files], bobs: str) -> None:
    session.start("alice", files["alice"])
    session.start("bob", files["bob"], files[bobs])
    session.go(*NAMES)
    for said in session.outcomes().values():
        assert said[0] == "cluster"
        assert said[1].startswith("failed "), said


def test_nobody_but_a_party_puts_a_message_into_the_cross_silo_link(session: Session, files: dict[str, Files]) -> None:
    session.start("alice", files["alice"])
    session.go("alice")
    # while alice waits for bob
    push = _push_to_brpc if session.backend == "brpc_link" else _push_to_grpc
    connect(session.at["alice"]).close()
    for caller in ("cleartext", "no certificate", "foreign"):
        assert not push(session.at["alice"], caller, files), caller
    # what was sent is what alice would have taken
    assert push(session.at["alice"], "bob", files)


def _push_to_brpc(address: str, caller: str, files: dict[str, Files]) -> bool:
    """Whether a message of bob's is taken. brpc's servers take HTTP on every port, and cleartext on one with TLS."""
    message = {"sender_rank": 1, "key": "root:P2P-9:1->0", "value": base64.b64encode(b"planted").decode()}
    body = json.dumps(message | {"trans_type": "MONO"}).encode()
    head = f"POST /org.interconnection.link.ReceiverService/Push HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    tls = files.get(caller)
    with connect(address) as raw, suppress(OSError):
        raw.settimeout(5)
        over = raw
        if caller != "cleartext":
            context = tls.context(server=False) if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            over = context.wrap_socket(raw)
        over.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        return over.recv(4096).startswith(b"HTTP/1.1 200 OK")
    return False


def _push_to_grpc(address: str, caller: str, files: dict[str, Files]) -> bool:
    """Whether a message of this job is taken; the bytes are those of SfFedProxySendData, encoded by hand."""
    options = [("grpc.ssl_target_name_override", "alice")]
    tls, alice = files.get(caller), files["alice"]
    assert alice
    own = (tls.private_key.read_bytes(), tls.certificate.read_bytes()) if tls else (None, None)
    if caller == "cleartext":
        channel = grpc.insecure_channel(address)
    else:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(alice.ca.read_bytes(), *own), options)
    with channel:
        try:
            answer = channel.unary_unary("/SfFedProxy/SendData")(b"\x0a\x01x\x10\x63\x1a\x05links", timeout=5)
        except grpc.RpcError:
            return False
    return b"OK" in answer
