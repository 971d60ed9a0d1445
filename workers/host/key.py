"""The party's own key pair, which reads the secrets that are sealed for it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from workers.contract.errors import ConfigError
from workers.contract.key_file import read_key, write_key
from workers.contract.secrets import PUBLIC_KEY, SEALED, SUITE, with_secrets_changed


class PartyKey:
    """A party's own key pair, in a file of its host."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def load(cls, path: Path) -> PartyKey:
        """Return the pair in the file. Raises ConfigError, which names no path."""
        try:
            return cls(X25519PrivateKey.from_private_bytes(read_key(path)))
        except FileNotFoundError:
            raise ConfigError(
                "this host has no key to read secrets with; run `manage.py party keys` on it, and put the public key "
                "that it prints on the party's page"
            ) from None
        except (OSError, ValueError):
            raise ConfigError("the key of party.toml cannot be read, or is no key of `manage.py party keys`") from None

    @classmethod
    def create(cls, path: Path) -> PartyKey:
        """Make a new pair in a file that only its owner can read. Raises OSError, also if the file exists."""
        private = X25519PrivateKey.generate()
        write_key(path, private.private_bytes_raw())
        return cls(private)

    @property
    def public_key(self) -> str:
        """Return the public key in the form in which the control plane registers it."""
        return PUBLIC_KEY + base64.b64encode(self._private.public_key().public_bytes_raw()).decode()

    def unseal(self, sealed: str, purpose: str) -> str:
        """Return a sealed secret in the clear. Raises ConfigError."""
        try:
            raw = base64.b64decode(sealed.removeprefix(SEALED), validate=True)
            return bytes(SUITE.decrypt(raw, self._private, info=purpose.encode())).decode()
        except (InvalidTag, ValueError):
            raise ConfigError(
                "a secret was not sealed for this host's key; put the public key that `manage.py party keys` prints "
                "on the party's page"
            ) from None


def with_secrets_opened(documents: Mapping[str, Any], key_file: Path, purpose: str) -> dict[str, Any]:
    """Return a party's documents with the secrets that were sealed for it in the clear. Raises ConfigError."""
    key: PartyKey | None = None

    def open_one(path: tuple[str, ...], value: str) -> str:
        nonlocal key
        if not value.startswith(SEALED):
            return value
        key = key or PartyKey.load(key_file)  # a run without secrets needs no key
        return key.unseal(value, purpose)

    return with_secrets_changed(documents, open_one)
