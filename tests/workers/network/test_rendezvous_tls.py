"""The meeting before a run over mutual TLS: who is let in, and what is said of who is not."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from executions.trial.certificates import TrialCA
from tests.workers.network.test_rendezvous import LIMIT, Party, Ports, connect, greeting, impostor
from tests.workers.network.test_rendezvous import ports as ports
from workers.contract.endpoints import split
from workers.network import rendezvous
from workers.network.listening import check_free, listen
from workers.network.run_certificate import RunCertificate
from workers.network.tls import KeyMaterial

Files = dict[str, KeyMaterial]
COMPARE = "compare the certificates and the CA that the two parties use"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """alice's, bob's and carol's own; bob's of a foreign CA; and one of carol's name at bob."""
    authority = TrialCA(tmp_path_factory.mktemp("ca"))
    foreign = TrialCA(tmp_path_factory.mktemp("foreign"), "foreign CA")
    made = {name: authority.certify(name) for name in ("alice", "bob", "carol")}
    stranger = foreign.certify("bob")
    return made | {
        "foreign": stranger,
        "foreign that trusts ours": replace(stranger, ca=authority.path),
        "ours that trusts theirs": replace(made["bob"], ca=foreign.path),
    }


@pytest.mark.parametrize("names", [("alice", "bob"), ("alice", "bob", "carol")])
def test_the_parties_meet_and_know_each_others_certificates(ports: Ports, files: Files, names: tuple[str, ...]) -> None:
    where = {name: ports.take() for name in names}
    parties = [Party(name, where, tls=files[name]) for name in names]
    assert [p.outcome() for p in parties] == ["met"] * len(names)
    made = {party.party: party.met.own.der for party in parties if party.met and party.met.own}
    assert len({*made.values()}) == len(names), "each its own"
    for party in parties:
        assert party.certificates == {name: der for name, der in made.items() if name != party.party}
    for address in where.values():
        check_free(address)


def test_who_calls_after_the_meeting_waits_where_it_was_and_is_not_refused(ports: Ports, files: Files) -> None:
    """A peer that connects its link a moment too early: brpc leaves one that refused it alone for a while."""
    where = {"alice": ports.take(), "bob": ports.take()}
    with listen(where["alice"]) as listener:
        parties = [Party("alice", where, tls=files["alice"], listener=listener), Party("bob", where, tls=files["bob"])]
        assert [p.outcome() for p in parties] == ["met", "met"]
        with socket.create_connection(split(where["alice"]), timeout=LIMIT) as caller:
            accepted, address = listener.accept()
            accepted.close()
            assert address == caller.getsockname()


def test_it_never_hangs_over_tls(ports: Ports, files: Files) -> None:
    where = {name: ports.take() for name in ("alice", "bob", "carol")}
    for turn in range(15):
        parties = [Party(n, where, job=f"job-{turn}", tls=files[n], late=0.01 * i) for i, n in enumerate(where)]
        assert [p.outcome() for p in parties] == ["met"] * 3, f"turn {turn}"


NOT_OURS = "its certificate is not signed by the ca in this party's party.toml"


@pytest.mark.parametrize(
    ("bobs", "said_of_bob", "said_of_alice"),
    [
        ("foreign", NOT_OURS, NOT_OURS),
        # each in turn is content with the other one, and not let in
        ("foreign that trusts ours", NOT_OURS, ""),
        ("ours that trusts theirs", "", NOT_OURS),
        ("carol", "its certificate does not name bob", ""),
    ],
)
def test_it_refuses_a_peer_whose_certificate_does_not_prove_who_it_is(
    ports: Ports, files: Files, bobs: str, said_of_bob: str, said_of_alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "REFUSAL_SECONDS", 0.5)
    where = {"alice": ports.take(), "bob": ports.take()}
    alice = Party("alice", where, tls=files["alice"], timeout=2)
    bob = Party("bob", where, tls=files[bobs], timeout=2)
    for party, peer, said in ((alice, "bob", said_of_bob), (bob, "alice", said_of_alice)):
        assert party.outcome() == ("ConfigError" if said else "NetworkError")
        if said:
            assert str(party.error) == f"the TLS handshake with {peer} failed: {said}; {COMPARE}"
        assert party.certificates == {} or not said


def test_it_says_that_a_peer_answers_without_tls(ports: Ports, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "REFUSAL_SECONDS", 0.3)
    where = {"alice": ports.take(), "bob": ports.take()}
    with impostor(where["bob"], lambda caller: caller.sendall(greeting())):
        alice = Party("alice", where, tls=files["alice"])
        assert alice.outcome() == "ConfigError"
    assert str(alice.error) == (
        "the TLS handshake with bob failed: it answers without TLS, or with a version older than 1.2"
    )


def test_a_peer_in_cleartext_learns_nothing_and_is_refused(ports: Ports, files: Files) -> None:
    where = {"alice": ports.take(), "bob": ports.take()}
    alice, bob = Party("alice", where, tls=files["alice"], timeout=1), Party("bob", where, timeout=1)
    assert (alice.outcome(), bob.outcome()) == ("NetworkError", "NetworkError")
    assert str(alice.error) == "bob did not come to the meeting within 1 s"


def handshake(files: KeyMaterial | None) -> Callable[[socket.socket], socket.socket]:
    """What a caller does first: TLS with these files, or with no certificate."""

    def shake(raw: socket.socket) -> socket.socket:
        context = files.context(server=False) if files else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(raw)

    return shake


@pytest.mark.parametrize("caller", ["cleartext", "no certificate", "foreign", "carol"])
def test_a_stranger_who_calls_is_told_nothing(ports: Ports, files: Files, caller: str) -> None:
    where = {"alice": ports.take(), "bob": ports.take()}
    alice = Party("alice", where, tls=files["alice"])
    heard = b""
    with connect(where["alice"]) as raw, suppress(OSError):
        stranger = raw if caller == "cleartext" else handshake(files.get(caller))(raw)
        stranger.sendall(greeting() + rendezvous.THANKS)
        heard = stranger.recv(2048)
    assert b"alice" not in heard
    assert b"job-1" not in heard
    assert alice.is_alive()
    bob = Party("bob", where, tls=files["bob"])
    assert (alice.outcome(), bob.outcome()) == ("met", "met")


def forged(party: str) -> bytes:
    """A greeting in a party's name, as it should be, but with another digest."""
    certificate = base64.b64encode(RunCertificate(party).der).decode()
    said = {"party": party, "job": "job-1", "digest": "another", "certificate": certificate}
    return json.dumps(said).encode() + b"\n"


@pytest.mark.parametrize("side", ["calls", "answers"])
def test_what_another_party_says_in_a_peers_name_counts_for_nothing(ports: Ports, files: Files, side: str) -> None:
    """carol has a certificate of the CA. Her greeting as bob, with another digest, would end the run."""
    where = {"alice": ports.take(), "bob": ports.take()}

    def answer(caller: socket.socket) -> None:
        caller.settimeout(LIMIT)
        with suppress(OSError), files["carol"].context(server=True).wrap_socket(caller, server_side=True) as over_tls:
            over_tls.sendall(forged("bob"))
            over_tls.recv(2048)

    with impostor(where["bob"], answer if side == "answers" else lambda caller: None):
        alice = Party("alice", where, tls=files["alice"])
        for _ in range(3 if side == "calls" else 0):
            with connect(where["alice"]) as raw, suppress(OSError):
                handshake(files["carol"])(raw).sendall(forged("bob") + rendezvous.THANKS)
        threading.Event().wait(0.3)
    bob = Party("bob", where, tls=files["bob"])
    assert (alice.outcome(), bob.outcome()) == ("met", "met"), (alice.error, bob.error)


def test_a_peer_speaks_for_itself_alone(ports: Ports, files: Files) -> None:
    """bob is a peer, and answers as carol, who is one too."""
    where = {name: ports.take() for name in ("alice", "bob", "carol")}

    def answer(caller: socket.socket) -> None:
        caller.settimeout(LIMIT)
        with suppress(OSError), files["bob"].context(server=True).wrap_socket(caller, server_side=True) as over_tls:
            over_tls.sendall(forged("carol"))
            over_tls.recv(2048)

    with impostor(where["bob"], answer):
        alice = Party("alice", where, tls=files["alice"])
        threading.Event().wait(0.3)
        assert alice.is_alive()
    others = [Party(name, where, tls=files[name]) for name in ("bob", "carol")]
    assert [party.outcome() for party in (alice, *others)] == ["met"] * 3, alice.error


@pytest.mark.parametrize("certificate", ["none", "nonsense", "the CA's", "names another", "long"])
def test_a_certificate_for_the_run_that_is_none_is_not_taken(
    ports: Ports, files: Files, certificate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        "none": b"", "nonsense": b"x" * 300, "long": b"x" * 3000,
        "the CA's": ssl.PEM_cert_to_DER_cert(files["bob"].certificate.read_text()),
        "names another": RunCertificate("alice").der,
    }[certificate]  # fmt: skip
    where = {"alice": ports.take(), "bob": ports.take()}
    with monkeypatch.context() as patch:
        patch.setattr(rendezvous.RunCertificate, "der", property(lambda own: made))
        alice = Party("alice", where, tls=files["alice"], timeout=1)
        bob = Party("bob", where, tls=files["bob"], timeout=1)
        assert (alice.outcome(), bob.outcome()) == ("NetworkError", "NetworkError")
    assert alice.certificates == {}


@pytest.mark.parametrize("answerer", ["cleartext", "foreign", "carol"])
def test_an_impostor_at_a_peers_address_is_told_nothing(ports: Ports, files: Files, answerer: str) -> None:
    where = {"alice": ports.take(), "bob": ports.take()}
    heard: list[bytes] = []

    def answer(caller: socket.socket) -> None:
        caller.settimeout(LIMIT)
        with suppress(OSError):
            if answerer == "cleartext":
                heard.append(caller.recv(2048))
                caller.sendall(greeting())
                return
            context = files[answerer].context(server=True)
            context.verify_mode = ssl.CERT_NONE
            with context.wrap_socket(caller, server_side=True) as over_tls:
                over_tls.sendall(greeting())
                heard.append(over_tls.recv(2048))

    with impostor(where["bob"], answer):
        alice = Party("alice", where, tls=files["alice"])
        threading.Event().wait(0.3)
        assert alice.is_alive()
    # and the peer itself, who comes a moment later, is met all the same
    bob = Party("bob", where, tls=files["bob"])
    assert (alice.outcome(), bob.outcome()) == ("met", "met")
    assert heard or answerer == "foreign"  # which does not get beyond its certificate
    assert b"job-1" not in b"".join(heard)


def test_it_takes_no_older_version_than_tls_1_2(ports: Ports, files: Files) -> None:
    where = {"alice": ports.take(), "bob": ports.take()}
    alice = Party("alice", where, tls=files["alice"])
    old = files["bob"].context(server=False)
    with pytest.deprecated_call():
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with connect(where["alice"]) as raw, pytest.raises(ssl.SSLError):
        old.wrap_socket(raw)
    assert Party("bob", where, tls=files["bob"]).outcome() == "met"
    assert alice.outcome() == "met"


def test_it_says_that_the_documents_differ_over_tls(ports: Ports, files: Files, tmp_path: Path) -> None:
    where = {"alice": ports.take(), "bob": ports.take()}
    alice = Party("alice", where, digest="one", tls=files["alice"])
    bob = Party("bob", where, digest="two", tls=files["bob"])
    assert (alice.outcome(), bob.outcome()) == ("ConfigError", "ConfigError")
    assert str(alice.error) == "bob was sent other documents than alice"
