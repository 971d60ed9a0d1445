"""Writes that leave no trace (``?dry_run=true``), and writes that happen once however often they are sent
(``Idempotency-Key``)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.errors import Conflict, Problem
from controlplane.api.query import StrictQuery
from controlplane.documents.encryption import decrypted, encrypted
from controlplane.models import KeptAnswer

DRY_RUN, KEY = "dry_run", "Idempotency-Key"
#: For so long a key stands for its request.
KEPT_FOR = timedelta(hours=24)
#: A request that is at work for longer has died: the next one with its key takes it up.
AT_WORK_FOR = timedelta(seconds=60)
#: Headers that belong to an answer.
_HEADERS = ("Location", "ETag")


class InProgress(Problem):
    """A request with this key is still at work."""

    status_code = 409
    kind = "in-progress"
    default_code = "in_progress"
    default_detail = "A request with this Idempotency-Key is still at work; send it again in a moment."
    wait = 1


class KeyReused(Problem):
    """The key was used for another request."""

    status_code = 422
    kind = "key-reused"
    default_code = "key_reused"
    default_detail = (
        "This Idempotency-Key was used for another method, address or body within 24 hours; use a new key for each "
        "request."
    )


class Writes(StrictQuery):
    """Part of a view that writes."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in SAFE_METHODS:
            return
        name = str(request.method).lower()
        # The view's method is looked up after this: permissions have been checked by now, nothing was written yet
        handler = getattr(self, name, None)
        if handler is None:
            return
        given = request.headers.get(KEY)
        key = None if given is None else _valid(given)
        if self.is_dry_run:
            setattr(self, name, partial(_without_trace, handler))
        elif key is not None:
            setattr(self, name, partial(_once, handler, key))

    def parameters(self, request: Request) -> Iterable[str]:
        yield from super().parameters(request)
        if request.method not in SAFE_METHODS:
            yield DRY_RUN

    @property
    def is_dry_run(self) -> bool:
        """Return whether the request is to be checked alone. Raises ValidationError for what is neither yes nor no."""
        given = self.request.query_params.get(DRY_RUN)  # type: ignore[attr-defined]
        if given not in (None, "true", "false"):
            raise ValidationError({DRY_RUN: [ErrorDetail("should be true or false", "invalid")]})
        return bool(given == "true")


def _without_trace(handler: Callable[..., Response], request: Request, *args: Any, **kwargs: Any) -> Response:
    """Return what the write would be answered; all that it does is undone."""
    with transaction.atomic():
        response = handler(request, *args, **kwargs)
        transaction.set_rollback(True)
    for name in _HEADERS:  # of what does not exist
        response.headers.pop(name, None)
    response["Dry-Run"] = "true"
    return response


def _valid(key: str) -> str:
    if 0 < len(key) <= 255 and key.isascii() and key.isprintable():
        return key
    text = "should be 1 to 255 printable ASCII characters, such as a UUID"
    raise ValidationError({KEY: [ErrorDetail(text, "invalid")]})


def _once(handler: Callable[..., Response], key: str, request: Request, *args: Any, **kwargs: Any) -> Response:
    """Do the write, or return the answer that it was given before."""
    token: Any = request.auth
    sender = f"token {token.digest[:64]}" if token else f"user {request.user.pk}"
    kept, is_mine = _claim(sender, key, _digest(request))
    if not is_mine:
        body = decrypted(kept.body)
        if body is None:
            raise Conflict("It was done; the answer cannot be read any more, as the encryption keys were changed.")
        headers = {**kept.headers, "Idempotency-Replayed": "true"}
        return Response(json.loads(body), kept.status, headers=headers)
    mine = KeptAnswer.objects.filter(pk=kept.pk, lease=kept.lease, status=None)
    try:
        with transaction.atomic():
            response = handler(request, *args, **kwargs)
            told = {
                "status": response.status_code,
                # An answer may hold a new key, which is shown once and stored nowhere in the clear
                "body": encrypted(JSONRenderer().render(response.data).decode() or "null"),
                "headers": {name: response[name] for name in _HEADERS if name in response.headers},
            }
            if not mine.update(**told):  # it took too long, and somebody else has taken it up
                raise InProgress()
    except BaseException:
        # Nothing was done, so that the key may be used again
        mine.delete()
        raise
    return response


def _claim(sender: str, key: str, digest: str) -> tuple[KeptAnswer, bool]:
    """Return what is kept for a key, and whether it is for the caller to do the write. Raises InProgress and
    KeyReused."""
    now = timezone.now()
    kept, is_new = KeptAnswer.objects.get_or_create(sender=sender, key=key, defaults={"request": digest})
    if is_new:
        return kept, True
    is_over = not now - KEPT_FOR < kept.since <= now + AT_WORK_FOR
    if not is_over:
        if kept.request != digest:
            raise KeyReused()
        if kept.status is not None:
            return kept, False
        if kept.since > now - AT_WORK_FOR:
            raise InProgress()
    fresh: dict[str, Any] = {
        "lease": uuid.uuid4(),
        "since": now,
        "request": digest,
        "status": None,
        "body": "",
        "headers": {},
    }
    # Of two who take it up, one
    if not KeptAnswer.objects.filter(pk=kept.pk, lease=kept.lease, status=kept.status).update(**fresh):
        raise InProgress()
    kept.lease = fresh["lease"]
    return kept, True


def _digest(request: Request) -> str:
    body = json.dumps(request.data, sort_keys=True)
    address = request.get_full_path()
    return sha256("\n".join((str(request.method), address, body)).encode("utf-8", "surrogatepass")).hexdigest()
