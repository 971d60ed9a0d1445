"""What the pages of the console write in their own way."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from controlplane import times

register = template.Library()


@register.filter
def code(text: str) -> SafeString:
    """Return a message as HTML, with what it quotes in backticks, such as a command, as code."""
    return mark_safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)))  # noqa: S308  escaped before


@register.filter
def moment(at: datetime | None) -> Any:
    """Return how long ago a time was; on hover, the time itself with its zone."""
    return times.moment(at)


@register.filter
def exact(at: datetime | None, timespec: str = "seconds") -> Any:
    """Return a time in the user's zone, which it names on hover; ``timespec``: as ``datetime.isoformat`` takes it."""
    return times.exact(at, timespec)
