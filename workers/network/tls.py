"""A party's own certificate, private key and CA: checks the files and makes TLS contexts of them.

A certificate names its party: its subject's common name, or one of its DNS names, is the party's name.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from workers.contract.errors import ConfigError

#: Limit of the messages of a handshake, back and forth: more than any handshake takes.
FLIGHTS = 10
#: OpenSSL's codes for a chain that does not lead to the CA: bad signature, self-signed, issuer not found.
_NOT_OF_THE_CA = {2, 7, 18, 19, 20, 21}


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """The PEM files under ``[tls]`` of a party.toml."""

    certificate: Path
    private_key: Path
    ca: Path

    @property
    def files(self) -> tuple[Path, Path, Path]:
        return self.certificate, self.private_key, self.ca

    def check(self, party: str) -> None:
        """Raise ConfigError unless peers will accept these files for ``party``. The message names no path."""
        with _speaking_of(party):
            [certificate, *_] = _certificates("certificate", self.certificate)
            _certificates("ca", self.ca)
            key = _private_key(self.private_key)
            if _encoded(key.public_key()) != _encoded(certificate.public_key()):
                raise ValueError("private_key does not belong to certificate; name the two that were made together")
            now = datetime.now(timezone.utc)
            if now > certificate.not_valid_after_utc:
                raise ValueError(f"certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}; have it renewed")
            if now < certificate.not_valid_before_utc:
                raise ValueError(
                    f"certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; "
                    "wait, or check this host's clock"
                )
            if party not in names_of(certificate):
                raise ValueError(
                    f"certificate does not name {party}; its common name or a DNS name should be the party's name"
                )
            self._check_chain()

    def context(self, *, server: bool) -> ssl.SSLContext:
        """Return the context of one side of mutual TLS, 1.2 or newer. The caller has to check whom the peer's
        certificate names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False  # the party's name counts, not its host's
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.certificate, self.private_key, password="")
        context.load_verify_locations(self.ca)
        return context

    def _check_chain(self) -> None:
        """Check the chain by a handshake with itself, as a peer would do it."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            ends = [
                self.context(server=False).wrap_bio(to_client, to_server),
                self.context(server=True).wrap_bio(to_server, to_client, server_side=True),
            ]
            for _ in range(FLIGHTS):
                for end in list(ends):
                    try:
                        end.do_handshake()
                        ends.remove(end)
                    except ssl.SSLWantReadError:
                        continue
        except ssl.SSLCertVerificationError as error:
            raise ValueError(f"{words_of(error)}; peers would refuse it, so name the CA that signed it") from None
        except ssl.SSLError as error:
            raise ValueError(f"TLS refuses these files: {error.reason}") from None
        if ends:
            raise ValueError("TLS does not come about with these files; have them made anew")


def words_of(error: ssl.SSLCertVerificationError) -> str:
    """Return what is wrong with a certificate, without any text from the other side."""
    if getattr(error, "verify_code", None) in _NOT_OF_THE_CA:
        return "its certificate is not signed by the ca in this party's party.toml"
    # It is one of OpenSSL's fixed texts, such as "certificate has expired", or ours
    message = getattr(error, "verify_message", None)
    return f"its certificate is refused: {message}" if message else str(error.args[-1])


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the common names and DNS names of a certificate."""
    names = {str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    return names | set(_alternative_names(certificate))


def name_for_grpc(der: bytes, party: str) -> str:
    """Return the name that gRPC, which insists on checking one, accepts for a peer's certificate. It is the party's
    name if gRPC can find it: gRPC ignores the common name of a certificate that also has other names.
    """
    certificate = x509.load_der_x509_certificate(der)
    names = _alternative_names(certificate)
    return party if party in names or not names else names[0]


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    """Return the DNS names and the IP addresses, as text."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]


@contextmanager
def _speaking_of(party: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"[tls] of {party}'s party.toml: {error}") from None


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"the file of {name} cannot be read ({error.strerror}); check its path and mode") from None
    except ValueError:  # the text has a NUL
        raise ValueError(f"{name} is no path; name a PEM file") from None


def _certificates(name: str, path: Path) -> list[x509.Certificate]:
    content = _read(name, path)
    try:
        found = x509.load_pem_x509_certificates(content)
        for certificate in found:
            _alternative_names(certificate)  # extensions are parsed on demand, and may be malformed
    except ValueError:
        raise ValueError(f"the file of {name} holds no certificate in PEM format") from None
    return found


def _private_key(path: Path) -> PrivateKeyTypes:
    content = _read("private_key", path)
    if path.stat().st_mode & 0o077:
        raise ValueError("the file of private_key can be read or written by others; chmod it to 600")
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:
        raise ValueError("private_key is encrypted; give one without a passphrase, in a file of mode 600") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("the file of private_key holds no private key in PEM format") from None


def _encoded(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
