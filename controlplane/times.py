"""How the console writes a time: one format everywhere, with the zone on hover. Templates have both as filters."""

from __future__ import annotations

from datetime import datetime
from datetime import timezone as zone
from typing import Any

from django.utils import timezone
from django.utils.html import format_html

#: What stands where there is nothing to say.
NOTHING = "-"
_STEPS = ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h"), (30 * 86_400, 86_400, "days"))


def moment(at: datetime | None) -> Any:
    """Return a time as lists show it: how long ago it was, and on hover the time itself with its zone."""
    if at is None:
        return NOTHING
    exact = timezone.localtime(at)
    return format_html(
        '<time class="cpl-time" datetime="{}" title="{}">{}</time>',
        at.astimezone(zone.utc).isoformat(timespec="seconds"),
        f"{exact:%Y-%m-%d %H:%M:%S %Z}",
        _relative(at),
    )


def exact(at: datetime | None, timespec: str = "seconds") -> Any:
    """Return a time itself, as tables of times show it, and on hover its zone."""
    if at is None:
        return NOTHING
    local = timezone.localtime(at)
    return format_html(
        '<time class="cpl-time" datetime="{}" title="{}">{}</time>',
        at.astimezone(zone.utc).isoformat(timespec=timespec),
        f"{local:%Z}, UTC{local:%z}",
        local.replace(tzinfo=None).isoformat(" ", timespec),
    )


def _relative(at: datetime) -> str:
    seconds = (timezone.now() - at).total_seconds()
    for below, unit, word in _STEPS:
        if abs(seconds) < below:
            number = int(abs(seconds) // unit)
            word = "day" if word == "days" and number == 1 else word
            return f"in {number} {word}" if seconds < 0 else f"{number} {word} ago"
    return f"{timezone.localtime(at):%Y-%m-%d}"
