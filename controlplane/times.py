"""How the console writes a time: one format everywhere, with the zone on hover. Templates have both as filters."""

from __future__ import annotations

from datetime import datetime
from datetime import timezone as zone
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

#: What stands where there is nothing to say.
NOTHING = "-"
#: Up to how many seconds a unit is used, its seconds, and what is said of the past and of the future.
_STEPS = (
    (60, 1, _("{} s ago"), _("in {} s")),
    (3600, 60, _("{} min ago"), _("in {} min")),
    (86_400, 3600, _("{} h ago"), _("in {} h")),
    (2 * 86_400, 86_400, _("{} day ago"), _("in {} day")),
    (30 * 86_400, 86_400, _("{} days ago"), _("in {} days")),
)


@cache
def known_zones() -> frozenset[str]:
    """Return the names of the time zones that this host knows. It looks once: to look takes 7 ms, and a list of
    schedules asks for each row."""
    return frozenset(available_timezones())


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
    for below, unit, ago, ahead in _STEPS:
        if abs(seconds) < below:
            return str(ahead if seconds < 0 else ago).format(int(abs(seconds) // unit))
    return f"{timezone.localtime(at):%Y-%m-%d}"
