"""Posts events to webhooks, beside the coordinator's steps: signed, again until they are taken, and of each execution
in their order."""

from __future__ import annotations

import base64
import hmac
import logging
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone

from controlplane.documents.encryption import decrypted, encrypted
from controlplane.people import webhook as http
from executions.models import PostStatus, Signature, Webhook, WebhookDelivery

log = logging.getLogger(__name__)

#: Requests at once, in all and to one webhook: a server that does not answer holds up its own events alone.
AT_ONCE, AT_ONE = 32, 8
#: For so long an event belongs to the coordinator that has begun to post it.
LEASE = timedelta(seconds=30)
#: An event is tried again for so long, with pauses that double from the first one to the longest.
GIVEN_UP_AFTER = timedelta(days=1)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(hours=2)
#: Tries that are kept of each event.
MOST_TRIES_KEPT = 20
#: For so long the key before signs, too, after a new one was made.
BOTH_KEYS_FOR = timedelta(days=1)
_HMAC, _ED25519 = "whsec_", "whpk_"


# --- keys and signatures, as Standard Webhooks has them


def new_keys(signature: str) -> tuple[str, str, str]:
    """Return a new key: encrypted, as the receiver needs it to check signatures, and the public part, if it has one."""
    if signature == Signature.HMAC:
        raw = secrets.token_bytes(32)
        text = _HMAC + base64.b64encode(raw).decode()
        return encrypted(text), text, ""
    key = Ed25519PrivateKey.generate()
    public = _ED25519 + base64.b64encode(key.public_key().public_bytes_raw()).decode()
    return encrypted(base64.b64encode(key.private_bytes_raw()).decode()), public, public


def headers_of(hook: Webhook, message: Any, body: str, now: int) -> dict[str, str]:
    """Return the headers of an event, with a signature by each key that is valid."""
    signed = f"{message}.{now}.{body}".encode()
    keys = [hook.secret]
    if hook.former_until and hook.former_until > timezone.now():
        keys.append(hook.former_secret)
    signatures = [_signature(hook.signature, decrypted(key) or "", signed) for key in keys if key]
    return {
        "Content-Type": "application/cloudevents+json; charset=utf-8",
        "webhook-id": str(message),
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(signatures),
    }


def _signature(kind: str, key: str, signed: bytes) -> str:
    if kind == Signature.HMAC:
        raw = base64.b64decode(key.removeprefix(_HMAC))
        return "v1," + base64.b64encode(hmac.digest(raw, signed, "sha256")).decode()
    signer = Ed25519PrivateKey.from_private_bytes(base64.b64decode(key))
    return "v1a," + base64.b64encode(signer.sign(signed)).decode()


# --- posting


class Try(NamedTuple):
    """How a try went: the status of the answer, what went wrong (empty if nothing did), and how long it took."""

    status: int | None
    why: str
    seconds: float


class Postman:
    """Posts what is due, several at once."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhooks")
        #: What is being posted.
        self._at_work: dict[Future[Try], WebhookDelivery] = {}

    def step(self) -> bool:
        """Note what was posted, and begin to post some of what is due. Returns whether anything is at work. Must not be
        called in a transaction. The database is this thread's alone: the others only wait for servers."""
        self._note_answers()
        for hook in self._hooks():
            busy = sum(delivery.webhook_id == hook for delivery in self._at_work.values())
            room = min(AT_ONE - busy, AT_ONCE - len(self._at_work))
            for delivery in _due().filter(webhook=hook).select_related("webhook")[: max(room, 0)]:
                if self._take(delivery):
                    self._at_work[self._pool.submit(_post, delivery)] = delivery
        return bool(self._at_work)

    def _note_answers(self) -> None:
        for future in [future for future in self._at_work if future.done()]:
            _note(self._at_work.pop(future), future.result())

    def finish(self, seconds: float = http.TIMEOUT) -> None:
        """Wait for what is being posted. What has no answer by then is posted again, once its lease ends."""
        wait(self._at_work, seconds)
        self._note_answers()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _hooks() -> list[int]:
        """Return the keys of webhooks with something due, in any order: one with very many events does not hold up the
        others."""
        rows = Webhook.objects.filter(Exists(_due().filter(webhook=OuterRef("pk")))).order_by("?")
        return list(rows.values_list("pk", flat=True)[:AT_ONCE])

    @staticmethod
    def _take(delivery: WebhookDelivery) -> bool:
        """Return whether it is ours to post: another coordinator may have taken it."""
        rows = WebhookDelivery.objects.filter(pk=delivery.pk, ended_at=None, due_at=delivery.due_at)
        delivery.due_at = timezone.now() + LEASE
        return bool(rows.update(due_at=delivery.due_at))


def _due() -> QuerySet[WebhookDelivery]:
    """Return what may be posted now: of each execution the first that is not, for each webhook."""
    pending = WebhookDelivery.objects.filter(ended_at=None)
    earlier = pending.filter(webhook=OuterRef("webhook"), execution=OuterRef("execution"), pk__lt=OuterRef("pk"))
    due = pending.filter(~Exists(earlier), due_at__lte=timezone.now(), webhook__enabled=True)
    return due.order_by("due_at", "pk")


def _post(delivery: WebhookDelivery) -> Try:
    hook, began = delivery.webhook, time.monotonic()
    status, why = None, ""
    try:
        headers = headers_of(hook, delivery.message, delivery.body, int(time.time()))
        status = http.send(hook.url, headers, delivery.body.encode())
        why = "" if 200 <= status < 300 else f"the server answered with status {status}"
    except http.NotSent as error:
        why = str(error)
    except (ValueError, UnsupportedAlgorithm):
        why = "its key cannot be read; make a new one"
    except Exception as error:  # one event that cannot be posted holds up no other
        log.exception("an event was not posted")
        why = f"the control plane could not post it ({type(error).__name__})"
    finally:
        connection.close()  # an address without TLS is looked up in the settings of the site
    return Try(status, why, time.monotonic() - began)


def _note(delivery: WebhookDelivery, found: Try) -> None:
    """Note how a try went, and when the next one is due."""
    status, why, seconds = found
    now = timezone.now()
    tried = {"at": now.isoformat(), "status": status, "error": why[:300], "seconds": round(seconds, 3)}
    number = delivery.number_of_tries + 1
    changes: dict[str, Any] = {"tries": [*delivery.tries, tried][-MOST_TRIES_KEPT:], "number_of_tries": number}
    if not why:
        changes |= {"status": PostStatus.SENT, "ended_at": now}
    elif status == 410 or now - delivery.since > GIVEN_UP_AFTER:
        changes |= {"status": PostStatus.GIVEN_UP, "ended_at": now}
    else:
        changes["due_at"] = now + min(FIRST_PAUSE * 2 ** min(number - 1, 12), LONGEST_PAUSE)
    WebhookDelivery.objects.filter(pk=delivery.pk, due_at=delivery.due_at).update(**changes)
    if status == 410:  # the server says that there is nothing any more, and will not be
        told = {"enabled": False, "disabled_because": "the server answered with status 410: it is gone"}
        # With a version of its own: whoever saves a form that was opened before does not switch it on unawares
        rows = Webhook.objects.filter(pk=delivery.webhook_id, enabled=True)
        rows.update(**told, version=F("version") + 1)
