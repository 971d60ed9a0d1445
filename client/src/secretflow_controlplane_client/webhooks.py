"""Verifies webhooks in the form of https://www.standardwebhooks.com: who sent one, and that it is recent."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Iterable, Mapping

#: What secrets and public keys begin with.
SECRET, PUBLIC_KEY = "whsec_", "whpk_"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


class WebhookInvalid(Exception):
    """The webhook is not to be trusted; the message says why, and holds nothing secret."""


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes | str,
    secrets_or_public_keys: str | Iterable[str],
    now: float | None = None,
    tolerance: float = 300,
) -> None:
    """Return if one of these secrets (``whsec_...``) or public keys (``whpk_...``) has signed a webhook within the last
    ``tolerance`` seconds. Raises WebhookInvalid otherwise, and ValueError for a secret or key that is none.

    ``body``: exactly as it was received. ``headers``: in capitals or small letters. An id stands for one message: who
    must not take one twice keeps the ids of the last minutes.
    """
    content = body.encode() if isinstance(body, str) else bytes(body)
    given = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in (ID, TIMESTAMP, SIGNATURE) if not given.get(name)]
    if missing:
        raise WebhookInvalid(f"The header {missing[0]} is missing.")
    sent = given[TIMESTAMP].strip()
    if not (sent.isascii() and sent.isdigit() and len(sent) <= 12):
        raise WebhookInvalid(f"The header {TIMESTAMP} is no number of seconds.")
    age = (time.time() if now is None else now) - int(sent)
    if abs(age) > tolerance:
        when = "too long ago" if age > 0 else "in the future"
        raise WebhookInvalid(f"It was sent {when}: {abs(age):.0f} seconds, and {tolerance:g} are the most.")
    signed = f"{given[ID]}.{sent}.".encode() + content
    keys = [secrets_or_public_keys] if isinstance(secrets_or_public_keys, str) else list(secrets_or_public_keys)
    checks = [_check_of(key) for key in keys]
    # All of them, so that the time it takes tells nothing of which one fits
    found = [check(version, signature, signed) for version, signature in _signatures(given) for check in checks]
    if not any(found):
        raise WebhookInvalid("No signature is by one of these secrets or keys.")


_Check = Callable[[str, bytes, bytes], bool]


def _signatures(given: Mapping[str, str]) -> Iterable[tuple[str, bytes]]:
    """Yield the signatures with their versions; what is none of them is left out."""
    for part in given[SIGNATURE].split()[:20]:
        version, comma, text = part.partition(",")
        try:
            if comma:
                yield version, base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue


def _check_of(key: str) -> _Check:
    """Return what checks signatures by a secret or a public key. Raises ValueError, which does not tell it."""
    is_public = key.startswith(PUBLIC_KEY)
    if not is_public and not key.startswith(SECRET):
        raise ValueError(f"a secret begins with {SECRET}, a public key with {PUBLIC_KEY}")
    try:
        raw = base64.b64decode(key.removeprefix(PUBLIC_KEY if is_public else SECRET), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a secret or public key is base64 after its prefix") from None
    if not raw:  # anybody could sign with an empty one
        raise ValueError("a secret or public key is not empty")
    return _by_public_key(raw) if is_public else _by_secret(raw)


def _by_secret(secret: bytes) -> _Check:
    def check(version: str, signature: bytes, signed: bytes) -> bool:
        return version == "v1" and hmac.compare_digest(signature, hmac.digest(secret, signed, "sha256"))

    return check


def _by_public_key(raw: bytes) -> _Check:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise ValueError(
            "signatures by public keys need the package cryptography: "
            "pip install 'secretflow-controlplane-client[ed25519]'"
        ) from None
    if len(raw) != 32:
        raise ValueError("a public key has 32 bytes")
    key = Ed25519PublicKey.from_public_bytes(raw)

    def check(version: str, signature: bytes, signed: bytes) -> bool:
        if version != "v1a":
            return False
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True

    return check
