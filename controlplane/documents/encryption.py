"""Secrets at rest: encrypted before they reach the database, and decrypted only to be sent to a party."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from controlplane.environment import environment
from workers.contract.errors import ConfigError
from workers.contract.problems import DocumentsInvalid, Problem
from workers.contract.secrets import MASK, change_secrets, seal, secrets_of, with_secrets_changed

ENCRYPTED = "encrypted:"


@cache
def _keys() -> MultiFernet:
    """Return the keys: the first one encrypts, all of them decrypt."""
    return MultiFernet([Fernet(key) for key in environment.encryption_key_list()])


def protect(layer: str, document: Any, before: Callable[[], Any]) -> tuple[Any, list[Problem]]:
    """Return a document with its secrets encrypted, and its problems. A secret that is masked is taken from the
    document ``before``."""
    problems: list[Problem] = []
    known: dict[tuple[str, ...], str] | None = None

    def encrypt(path: tuple[str, ...], value: str) -> str:
        nonlocal known
        known = secrets_of(layer, before()) if known is None else known
        stored = known.get(path, "")
        # the same secret again is no change
        if stored and value in (MASK, decrypted(stored)):
            return stored
        if value == MASK:
            problems.append(Problem(".".join(path[1:]), "is only the mask of a secret", "enter the secret itself"))
        if value == MASK or decrypted(value) is not None:
            return value
        return encrypted(value)

    return change_secrets(layer, document, encrypt), problems


def protect_all(documents: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return documents by layer as they may be stored, as ``protect`` makes them. Raises DocumentsInvalid."""
    kept: dict[str, Any] = {}
    problems: list[Problem] = []
    for layer, document in documents.items():
        kept[layer], found = protect(layer, document, partial(before.get, layer))
        problems += [problem.under(layer) for problem in found]
    if problems:
        raise DocumentsInvalid(problems)
    return kept


def sealed_for(
    party: str, public_key: str, documents: Mapping[str, Any], parties: list[str], purpose: str
) -> dict[str, Any]:
    """Return documents as they are sent to a party: its secrets sealed with its key, those of other parties masked.

    A secret belongs to another party if it lies below that party's name. Raises ConfigError.
    """

    def send(path: tuple[str, ...], value: str) -> str:
        if any(step in parties and step != party for step in path):
            return MASK
        text = decrypted(value) if value.startswith(ENCRYPTED) else value
        if text is None:
            raise ConfigError(
                f"{'.'.join(path)} was encrypted with a key that is no longer in CONTROLPLANE_ENCRYPTION_KEYS; "
                "enter it again"
            )
        return seal(public_key, text, purpose)

    return with_secrets_changed(documents, send)


def encrypted(text: str) -> str:
    """Return a secret as it is stored."""
    return ENCRYPTED + _keys().encrypt(text.encode()).decode()


def decrypted(value: str) -> str | None:
    """Return the secret in the clear; None if it was not encrypted with one of our keys."""
    if not value.startswith(ENCRYPTED):
        return None
    try:
        return _keys().decrypt(value.removeprefix(ENCRYPTED).encode()).decode()
    except InvalidToken:
        return None
