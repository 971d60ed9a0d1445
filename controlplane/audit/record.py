"""Adds entries to the audit trail, in the transaction of what they are about."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import sys
import time
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext_noop
from simple_history.models import HistoricalRecords

from controlplane import request_id
from controlplane.models import AuditEntry
from controlplane.sign_in import address_of

#: Word for what a process does by itself, without a request.
COORDINATOR = "coordinator"
#: Details of an entry that stands for many.
MORE = gettext_noop("{number} more requests in a minute")


def record(
    action: str, subject: str, *, content: Any = None, details: str = "", actor: str = "", by: Any = None
) -> None:
    """Add an entry. ``content``: what was written, of which the digest is kept. ``by``: a user, where no request tells
    who it is; ``actor``: somebody who is none."""
    request = current_request()
    AuditEntry.objects.create(
        actor=(actor or actor_of(request, by))[:200],
        address=address_of(request) if request else "",
        action=action[:40],
        subject=_plain(subject)[:200],
        digest=digest_of(content) if content is not None else "",
        details=_plain(details)[:500],
        request_id=request_id.current(),
    )


class _Refusals:
    """Counts what was refused in this minute: a stranger must not fill the database with it."""

    MOST_A_MINUTE = 60
    began = 0.0
    count = 0

    @classmethod
    def has_room(cls) -> bool:
        """Return whether one more may be noted; how many were not is noted with the first of the next minute."""
        now = time.monotonic()
        if now - cls.began > 60:
            if cls.count > cls.MOST_A_MINUTE:
                record("refused", "", details=MORE.format(number=f"{cls.count - cls.MOST_A_MINUTE:,}"))
            cls.began, cls.count = now, 0
        cls.count += 1
        return cls.count <= cls.MOST_A_MINUTE


def record_refusal(subject: str, *, details: str = "", actor: str = "") -> None:
    """Add an entry of something that was refused, unless there are very many."""
    if _Refusals.has_room():
        record("refused", subject, details=details, actor=actor)


def current_request() -> HttpRequest | None:
    """Return the request that this thread answers, if it does."""
    return getattr(HistoricalRecords.context, "request", None)


def actor_of(request: HttpRequest | None, by: Any = None) -> str:
    """Return who does something: the request's user, with the token if there is one, or the command that runs."""
    user = getattr(request, "user", None) if request else None
    if user is not None and user.is_authenticated:
        token = getattr(getattr(request, "auth", None), "terms", None)
        return f"{user.get_username()} by token {token.name}" if token else user.get_username()
    if by is not None:
        return str(by.get_username())
    if request is not None:
        return "nobody"
    command = sys.argv[1] if len(sys.argv) > 1 and os.path.basename(sys.argv[0]) == "manage.py" else "a program"
    return COORDINATOR if command == "coordinate" else f"{getpass.getuser()} by command {command}"


def digest_of(content: Any) -> str:
    """Return the SHA-256 of something as JSON, with its keys in order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _plain(text: str) -> str:
    """Return the text without what a terminal or PostgreSQL would stumble upon."""
    return "".join(char if char.isprintable() else " " for char in text)
