"""Webhooks in the form of Standard Webhooks are verified."""

from __future__ import annotations

import base64
import hmac
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from secretflow_controlplane_client.webhooks import WebhookInvalid, verify_webhook

#: The example of the Standard Webhooks' own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EXAMPLE = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
BODY = b'{"test": 2432232314}'
SENT = 1614265330


def signed(key: bytes | Ed25519PrivateKey, body: bytes = BODY, pk: str = "msg_1", at: int = SENT) -> str:
    content = f"{pk}.{at}.".encode() + body
    if isinstance(key, bytes):
        return "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    return "v1a," + base64.b64encode(key.sign(content)).decode()


def secret_of(key: bytes | Ed25519PrivateKey) -> str:
    if isinstance(key, bytes):
        return "whsec_" + base64.b64encode(key).decode()
    return "whpk_" + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def headers(*signatures: str) -> dict[str, str]:
    return {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(SENT), "Webhook-Signature": " ".join(signatures)}


def test_the_example_of_standard_webhooks() -> None:
    verify_webhook(EXAMPLE, BODY, SECRET, now=SENT)
    verify_webhook(EXAMPLE, BODY.decode(), [SECRET], now=SENT + 299)
    with pytest.raises(WebhookInvalid, match="No signature"):
        verify_webhook(EXAMPLE, BODY + b" ", SECRET, now=SENT)


@pytest.mark.parametrize("key", [b"a secret of a test", Ed25519PrivateKey.generate()], ids=["secret", "public key"])
def test_one_of_several_signatures_and_keys_is_enough(key: bytes | Ed25519PrivateKey) -> None:
    other = b"another secret"
    good = headers("v1,%%%", "v9,AAAA", signed(other, b"else"), signed(key))
    verify_webhook(good, BODY, [secret_of(b"older"), secret_of(key)], now=SENT)
    renamed = signed(key).replace("v1a,", "v2,").replace("v1,", "v1a,")
    for wrong in (headers(), headers(renamed), headers("v1"), headers("v1,", "v1a,"), headers(signed(other))):
        with pytest.raises(WebhookInvalid):
            verify_webhook(wrong, BODY, secret_of(key), now=SENT)


@pytest.mark.parametrize("key", [b"a secret of a test", Ed25519PrivateKey.generate()], ids=["secret", "public key"])
def test_what_was_signed_is_the_id_the_time_and_the_body(key: bytes | Ed25519PrivateKey) -> None:
    for other in (signed(key, pk="msg_2"), signed(key, at=SENT + 1), signed(key, b"{}")):
        with pytest.raises(WebhookInvalid, match="No signature"):
            verify_webhook(headers(other), BODY, secret_of(key), now=SENT)


def test_a_public_key_is_no_secret() -> None:
    """Who knows the public key may not sign with it as if it were the secret."""
    key = Ed25519PrivateKey.generate()
    forged = signed(key.public_key().public_bytes_raw())
    for signature in (forged, forged.replace("v1,", "v1a,")):
        with pytest.raises(WebhookInvalid):
            verify_webhook(headers(signature), BODY, secret_of(key), now=SENT)


@pytest.mark.parametrize(("now", "text"), [(SENT + 301, "too long ago"), (SENT - 301, "in the future")])
def test_it_is_recent(now: int, text: str) -> None:
    with pytest.raises(WebhookInvalid, match=text):
        verify_webhook(EXAMPLE, BODY, SECRET, now=now)
    verify_webhook(EXAMPLE, BODY, SECRET, now=now, tolerance=301)
    with pytest.raises(WebhookInvalid):
        verify_webhook(EXAMPLE, BODY, SECRET)  # by the clock


@pytest.mark.parametrize("name", list(EXAMPLE))
def test_all_headers_are_needed(name: str) -> None:
    with pytest.raises(WebhookInvalid, match=name):
        verify_webhook({key: value for key, value in EXAMPLE.items() if key != name}, BODY, SECRET, now=SENT)
    with pytest.raises(WebhookInvalid, match="timestamp"):
        verify_webhook(EXAMPLE | {"webhook-timestamp": "1e9"}, BODY, SECRET, now=SENT)


@pytest.mark.parametrize("key", ["", "secret", "whsec_", "whsec_%%", "whpk_AAAA", "whpk_"])
def test_a_key_that_is_none_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(ValueError, match=r"secret|public key") as refused:
        verify_webhook(EXAMPLE, BODY, [SECRET, key], now=SENT)
    assert "%%" not in str(refused.value)


def test_cryptography_is_imported_for_public_keys_alone() -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from secretflow_controlplane_client.webhooks import verify_webhook\n"
        f"verify_webhook({EXAMPLE!r}, {BODY!r}, {SECRET!r}, now={SENT})\n"
        f"try: verify_webhook({EXAMPLE!r}, b'', 'whpk_AAAA', now={SENT})\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert "need the package cryptography: pip install" in done.stdout
