"""Ed25519 signatures: the control plane's over what it asks of a party, a party's over what it reports.

Redis carries both and is not trusted. A signature holds for one purpose alone: an event's is none for a job.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from workers.contract.key_file import read_key, write_key

#: Begins the text of a public key.
SIGNING_KEY = "ed25519:"
#: Of what is signed: no other program's signature with the same key holds here.
_DOMAIN = b"secretflow control plane 1\0"


class SignatureRefused(Exception):
    """A message is not from whom it should be, or not as it was signed; the text says why, without a secret."""


class Signer:
    """Holds a private key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        public = private.public_key().public_bytes_raw()
        self.public_key = SIGNING_KEY + base64.b64encode(public).decode()
        self.key_id = _id_of(public)

    @classmethod
    def load(cls, path: Path) -> Signer:
        """Return the signer whose key is in the file. Raises OSError, or ValueError for a file that holds none."""
        return cls(Ed25519PrivateKey.from_private_bytes(read_key(path)))

    @classmethod
    def create(cls, path: Path) -> Signer:
        """Make a new key in a file that only its owner can read. Raises OSError, also if the file exists."""
        private = Ed25519PrivateKey.generate()
        write_key(path, private.private_bytes_raw())
        return cls(private)

    def sign(self, purpose: str, message: bytes) -> str:
        """Return a signature: the key's id and the signature itself, as text."""
        return f"{self.key_id}:{base64.b64encode(self._private.sign(_signed(purpose, message))).decode()}"


class Verifier:
    """Holds the public keys that count: several while one replaces another."""

    def __init__(self, public_keys: Iterable[str]) -> None:
        """Raises ValueError for a text that is no public key."""
        raw = [_read_public_key(text) for text in public_keys]
        self._keys = {_id_of(key): Ed25519PublicKey.from_public_bytes(key) for key in raw}

    @property
    def key_ids(self) -> list[str]:
        """Return the ids of the keys, by which people tell them apart."""
        return list(self._keys)

    def check(self, purpose: str, message: bytes, signature: bytes | str | None) -> None:
        """Raise SignatureRefused unless one of the keys signed the message for this purpose."""
        if not signature:
            raise SignatureRefused("it is not signed")
        text = signature.decode(errors="replace") if isinstance(signature, bytes) else signature
        key_id, _, encoded = text[:200].partition(":")
        if (key := self._keys.get(key_id)) is None:
            known = ", ".join(self._keys) or "none"
            shown = key_id if len(key_id) == _ID_LENGTH and key_id.isalnum() else "that cannot be read"
            raise SignatureRefused(f"it is signed with a key {shown}, and the keys that count are: {known}")
        try:
            key.verify(base64.b64decode(encoded, validate=True), _signed(purpose, message))
        except (InvalidSignature, ValueError):
            raise SignatureRefused("its signature does not fit: it was altered, or is not for this use") from None


def check_signing_key(text: str) -> None:
    """Raise ValueError for a text that is no public signing key."""
    _read_public_key(text)


_ID_LENGTH = 16


def _id_of(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:_ID_LENGTH]


def _read_public_key(text: str) -> bytes:
    if not text.startswith(SIGNING_KEY):
        raise ValueError(f"a public signing key begins with {SIGNING_KEY}")
    raw = base64.b64decode(text.removeprefix(SIGNING_KEY), validate=True)
    Ed25519PublicKey.from_public_bytes(raw)
    return raw


def _signed(purpose: str, message: bytes) -> bytes:
    return _DOMAIN + purpose.encode() + b"\0" + message
