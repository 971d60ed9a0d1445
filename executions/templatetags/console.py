"""What the pages of the console write in their own way."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from controlplane import language, times
from controlplane.access import Access
from executions.models import Notification

register = template.Library()

#: Unread notifications that are counted.
MOST_COUNTED = 99


def unread_of(request: Any) -> str:
    """Return the number of notifications that the user of a request has not read; empty if there are none."""
    rows = Notification.objects.filter(user=request.user.pk, read_at=None, in_console=True).order_by()
    number = Access.of(request).visible(rows)[: MOST_COUNTED + 1].count()
    return f"{MOST_COUNTED}+" if number > MOST_COUNTED else str(number or "")


@register.filter
def code(text: str) -> SafeString:
    """Return a message as HTML in the reader's language, with what it quotes in backticks, such as a command, as
    code."""
    return mark_safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(language.translated(str(text)))))  # noqa: S308  escaped before


@register.filter
def translated(text: Any) -> Any:
    """Return a stored English text in the reader's language."""
    return language.translated(text) if isinstance(text, str) else text


@register.inclusion_tag("executions/bell.html", takes_context=True)
def bell(context: Any) -> dict[str, Any]:
    """Return what the bell in the head of each page shows: for who subscribes to something."""
    request = context.get("request")
    account = getattr(getattr(request, "user", None), "account", None)
    if account is None or not account.subscriptions:
        return {}
    return {"has_bell": True, "unread": unread_of(request)}


@register.filter
def moment(at: datetime | None) -> Any:
    """Return how long ago a time was; on hover, the time itself with its zone."""
    return times.moment(at)


@register.filter
def exact(at: datetime | None, timespec: str = "seconds") -> Any:
    """Return a time in the user's zone, which it names on hover; ``timespec``: as ``datetime.isoformat`` takes it."""
    return times.exact(at, timespec)
