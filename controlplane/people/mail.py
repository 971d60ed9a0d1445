"""Mail to users, if a mail server is set (docs/operations.md)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from smtplib import SMTPException

from django.core.mail import EmailMessage

from controlplane.environment import environment

log = logging.getLogger(__name__)


def is_configured() -> bool:
    """Return whether there is a mail server."""
    return bool(environment.email_host)


def send(subject: str, text: str, to: Sequence[str]) -> str:
    """Send a message in plain text. Returns what went wrong, in a line; empty if the server has taken it."""
    line = " ".join(subject.split())[:150]  # a line break would make another header
    try:
        EmailMessage(line, text, to=list(to)).send()
    except (SMTPException, OSError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"[:300]
        log.warning("a message to %s was not sent: %s", ", ".join(to), why)
        return why
    return ""
