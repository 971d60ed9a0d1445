"""Certificates of a trial: a CA and one certificate per party, in one directory.

FOR TRIALS AND TESTS ONLY: whoever can read the directory has every party's private key and can make more
certificates. In production each party makes its own key on its own host, and has its certificate signed.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from workers.network.tls import KeyMaterial

VALID = datetime.timedelta(days=30)


class TrialCA:
    """A certificate authority whose key lives in this process alone."""

    def __init__(self, directory: Path, name: str = "trial CA") -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(self._name, self._name, self._key.public_key(), datetime.timedelta())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = directory / "ca.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def certify(
        self,
        party: str,
        *,
        common_name: str | None = None,
        dns_names: Sequence[str] | None = None,
        age: datetime.timedelta = datetime.timedelta(),
    ) -> KeyMaterial:
        """Return a key and a certificate for ``party``, which it names as common name and as DNS name.

        ``age``: how long ago it was made; more than ``VALID`` makes it expired, less than zero not yet valid.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, party if common_name is None else common_name)])
        builder = _builder(subject, self._name, key.public_key(), age)
        if names := [party] if dns_names is None else dns_names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        files = KeyMaterial(self.directory / f"{party}.pem", self.directory / f"{party}.key", self.path)
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        with open(os.open(files.private_key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        return files


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, age: datetime.timedelta
) -> x509.CertificateBuilder:
    begins = datetime.datetime.now(datetime.timezone.utc) - age
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # A little earlier, since clocks of hosts differ
        .not_valid_before(begins - datetime.timedelta(minutes=5) * (age >= datetime.timedelta()))
        .not_valid_after(begins + VALID)
    )
