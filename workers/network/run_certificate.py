"""A certificate for one run: what SecretFlow's links show and accept, so that they take this run's peers alone.

The parties' own certificates, which the CA signed, prove at the meeting who is who. There each party tells the others
a certificate that it has made for this run, by a key that never leaves its process's private directory. SecretFlow's
links know no names, and take whatever the CA in their file signed: that file holds the peers' certificates of the run,
each of which signs itself, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from workers.network.tls import KeyMaterial, names_of

#: Longer than a run, with a session that is kept after it, may take; and how far a peer's clock may be behind.
VALID, EARLY = timedelta(days=60), timedelta(days=1)
#: The longest that a peer may tell, in bytes.
MOST_BYTES = 1024


class RunCertificate:
    """This party's key and certificate for one run."""

    def __init__(self, party: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, party)])
        now = datetime.now(timezone.utc)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLY)
            .not_valid_after(now + VALID)
            # gRPC goes by this one
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(party)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def der(self) -> bytes:
        """Return the certificate as the peers are told it."""
        return self._certificate.public_bytes(Encoding.DER)

    def write(self, directory: Path, peers: Mapping[str, bytes]) -> KeyMaterial:
        """Write the files of a link that takes these peers' certificates (DER) alone. Raises OSError."""
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in peers.values()]
        files = KeyMaterial(directory / "run.pem", directory / "run.key", directory / "run-peers.pem")
        contents = (self._certificate.public_bytes(Encoding.PEM), key, b"".join(pem))
        for path, content in zip(files.files, contents, strict=True):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
        return files


def check_run_certificate(der: bytes, peer: str) -> None:
    """Raise ValueError unless this is a certificate that names the peer alone, and signs itself: one that could be
    another peer's would be taken for that one's."""
    if len(der) > MOST_BYTES:
        raise ValueError("a certificate for a run is longer than they are")
    certificate = x509.load_der_x509_certificate(der)
    if names_of(certificate) != {peer} or certificate.issuer != certificate.subject:
        raise ValueError(f"a certificate for a run does not name {peer} alone")
