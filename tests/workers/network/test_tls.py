"""A party's certificate, key and CA, as its party.toml names them; what is wrong with them is said without a path."""

from __future__ import annotations

import datetime
import json
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from django.core.management import CommandError, call_command

from executions.trial.certificates import VALID, TrialCA
from tests.workers.host.test_party_host import documents
from workers.contract.errors import ConfigError
from workers.contract.validation import validate
from workers.host.party import PartyHost
from workers.network.tls import KeyMaterial, name_for_grpc, names_of

DAY = datetime.timedelta(days=1)


@pytest.fixture
def authority(tmp_path: Path) -> TrialCA:
    return TrialCA(tmp_path / "ca")


def swap(files: KeyMaterial, **others: Path) -> KeyMaterial:
    return KeyMaterial(
        **{name: others.get(name, getattr(files, name)) for name in ("certificate", "private_key", "ca")}
    )


def loosened(path: Path, mode: int) -> Path:
    path.chmod(mode)
    return path


def encrypted(path: Path) -> Path:
    key: Any = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
    )
    return path


def der(files: KeyMaterial) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.certificate.read_text())


Make = Callable[[TrialCA, Path], KeyMaterial]
WRONG: list[tuple[str, Make]] = [
    ("the file of certificate cannot be read (No such file or directory)",
     lambda ca, tmp: swap(ca.certify("alice"), certificate=tmp / "missing.pem")),
    ("the file of private_key cannot be read (Is a directory)",
     lambda ca, tmp: swap(ca.certify("alice"), private_key=tmp)),
    ("the file of ca cannot be read (Not a directory)",
     lambda ca, tmp: swap(ca.certify("alice"), ca=ca.path / "ca.pem")),
    ("certificate is no path", lambda ca, tmp: swap(ca.certify("alice"), certificate=Path("a\0b"))),
    ("the file of certificate holds no certificate in PEM format",
     lambda ca, tmp: swap(ca.certify("alice"), certificate=ca.certify("bob").private_key)),
    ("the file of ca holds no certificate in PEM format",
     lambda ca, tmp: swap(ca.certify("alice"), ca=ca.certify("bob").private_key)),
    ("the file of private_key holds no private key in PEM format",
     lambda ca, tmp: swap(ca.certify("alice"), private_key=loosened(ca.certify("bob").certificate, 0o600))),
    ("private_key is encrypted; give one without a passphrase",
     lambda ca, tmp: swap(ca.certify("alice"), private_key=encrypted(ca.certify("bob").private_key))),
    ("private_key does not belong to certificate",
     lambda ca, tmp: swap(ca.certify("alice"), private_key=ca.certify("bob").private_key)),
    ("the file of private_key can be read or written by others; chmod it to 600",
     lambda ca, tmp: swap(ca.certify("alice"), private_key=loosened(ca.certify("alice").private_key, 0o644))),
    ("the file of private_key can be read or written by others",
     lambda ca, tmp: swap(ca.certify("alice"), private_key=loosened(ca.certify("alice").private_key, 0o620))),
    ("certificate expired on 20", lambda ca, tmp: ca.certify("alice", age=VALID + DAY)),
    ("certificate is not valid before 20", lambda ca, tmp: ca.certify("alice", age=-DAY)),
    ("certificate does not name alice; its common name or a DNS name should be the party's name",
     lambda ca, tmp: ca.certify("bob")),
    ("certificate does not name alice", lambda ca, tmp: ca.certify("alice", common_name="Alice", dns_names=["alice2"])),
    ("its certificate is not signed by the ca in this party's party.toml; peers would refuse it",
     lambda ca, tmp: swap(ca.certify("alice"), ca=TrialCA(tmp / "foreign").path)),
    ("its certificate is not signed by the ca",
     lambda ca, tmp: swap(ca.certify("alice"), ca=TrialCA(tmp / "foreign", "another name").path)),
]  # fmt: skip


@pytest.mark.parametrize(("said", "make"), WRONG, ids=[said for said, _ in WRONG])
def test_it_says_what_is_wrong_and_names_no_path(authority: TrialCA, tmp_path: Path, said: str, make: Make) -> None:
    with pytest.raises(ConfigError) as caught:
        make(authority, tmp_path).check("alice")
    assert str(caught.value).startswith(f"[tls] of alice's party.toml: {said}")
    assert str(tmp_path) not in str(caught.value)
    assert ".pem" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("common_name", "dns_names", "for_grpc"),
    [
        ("alice", [], "alice"),
        ("alice", ["alice"], "alice"),
        ("Alice Ltd", ["host.example", "alice"], "alice"),
        ("alice", ["host.example", "other.example"], "host.example"),
    ],
)
def test_it_takes_a_certificate_that_names_the_party(
    authority: TrialCA, common_name: str, dns_names: list[str], for_grpc: str
) -> None:
    files = authority.certify("alice", common_name=common_name, dns_names=dns_names)
    files.check("alice")
    assert name_for_grpc(der(files), "alice") == for_grpc


def test_it_takes_a_ca_file_with_several_cas(authority: TrialCA, tmp_path: Path) -> None:
    files = authority.certify("alice")
    both = tmp_path / "both.pem"
    both.write_bytes(TrialCA(tmp_path / "another", "another").path.read_bytes() + files.ca.read_bytes())
    swap(files, ca=both).check("alice")


# --- in party.toml

POLICY = '[policy]\ntask_types = ["*"]\npeers = ["*"]\n'


def host_of(directory: Path, tls: str) -> PartyHost:
    path = directory / "party.toml"
    path.write_text(f'party = "alice"\n{POLICY}{tls}')
    # as the process that computes gets it
    return PartyHost.from_message(json.loads(json.dumps(PartyHost.load(path).as_message())))


def encrypted_documents() -> dict[str, Any]:
    asking = documents()
    asking["sf_init_config"]["tls_config"] = {}
    return asking


def test_a_party_without_tls_refuses_documents_that_ask_for_it(tmp_path: Path) -> None:
    host = host_of(tmp_path, "")
    host.check(validate(documents()))
    with pytest.raises(ConfigError) as caught:
        host.check(validate(encrypted_documents()))
    assert str(caught.value) == (
        "the documents ask for TLS, and party.toml of alice has no [tls]; "
        "name its certificate, private_key and ca there"
    )


def test_a_party_checks_its_certificate_where_documents_ask_for_tls(authority: TrialCA, tmp_path: Path) -> None:
    authority.certify("alice")
    host = host_of(tmp_path, '[tls]\ncertificate = "ca/alice.pem"\nprivate_key = "ca/alice.key"\nca = "ca/ca.pem"\n')
    host.check(validate(encrypted_documents()))
    assert (
        host.reload().tls
        == host.tls
        == KeyMaterial(*(tmp_path / "ca" / n for n in ("alice.pem", "alice.key", "ca.pem")))
    )
    (tmp_path / "ca/alice.key").unlink()
    host.check(validate(documents()))
    with pytest.raises(ConfigError, match="the file of private_key cannot be read"):
        host.check(validate(encrypted_documents()))


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ("[tls]\n", "tls.certificate: is required; add it"),
        ('[tls]\ncertificate = "a"\nprivate_key = "b"\nca = "c"\nkey = "d"\n', "tls.key: unknown key"),
        ("tls = true\n", "policy.tls: unknown key"),
    ],
)
def test_it_says_what_is_wrong_in_party_toml(tmp_path: Path, tls: str, said: str) -> None:
    with pytest.raises(ConfigError, match="is wrong") as caught:
        host_of(tmp_path, tls)
    assert said in str(caught.value)


# --- certificates for trials


def test_the_command_makes_certificates_that_parties_take(tmp_path: Path) -> None:
    command = [sys.executable, "manage.py", "trial_certificates", str(tmp_path / "new"), "alice", "bob"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "FOR TRIALS ONLY" in done.stderr
    bob = done.stdout.split("# party.toml of bob\n")[1]
    host_of(tmp_path, done.stdout.split("# party.toml of bob\n")[0]).check(validate(encrypted_documents()))
    assert [path.stat().st_mode & 0o77 for path in (tmp_path / "new", tmp_path / "new/bob.key")] == [0, 0]
    with pytest.raises(ConfigError, match="does not name alice"):
        host_of(tmp_path, bob).check(validate(encrypted_documents()))
    for arguments, said in (([], "exists; name a new directory"), (["Bob!"], "is not a party's name")):
        with pytest.raises(CommandError, match=said):
            call_command("trial_certificates", str(tmp_path / "new"), "alice", "bob", *arguments)


def test_names_are_common_names_and_dns_names(authority: TrialCA) -> None:
    from cryptography import x509

    made = authority.certify("alice", common_name="A", dns_names=["b", "c"])
    assert names_of(x509.load_pem_x509_certificate(made.certificate.read_bytes())) == {"A", "b", "c"}
