"""How lists show times, durations, names and long texts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils.html import format_html
from django.utils.translation import gettext

from controlplane.times import NOTHING, exact, moment

__all__ = ["NOTHING", "counted", "exact", "first_names", "length", "line", "link", "moment", "span", "submission"]

#: Characters of a long text that a row shows, and that it shows on hover.
SHOWN_OF_A_LINE, SHOWN_ON_HOVER = 90, 2000


def span(length: timedelta | None, is_over: bool = True) -> str:
    """Return a duration as ``2.31 s``, ``3 min 05 s`` or ``1 h 02 min``; in whole seconds while it is not over."""
    if length is None:
        return NOTHING
    seconds = length.total_seconds()
    if seconds < 60:
        return f"{seconds:.2f} s" if is_over else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"


def length(found: timedelta | None, is_over: bool = True, more: str = "") -> Any:
    """Return a duration as a cell has it, in one line, and ``more`` below it."""
    return format_html('<span class="cpl-nowrap">{}{}</span>', span(found, is_over), _below(more))


def submission(at: datetime, user: Any) -> Any:
    """Return when something was submitted, and below it by whom."""
    return format_html("<span>{}{}</span>", moment(at), _below(gettext("by {user}").format(user=user) if user else ""))


def _below(text: str) -> Any:
    return format_html('<br><span class="cpl-below">{}</span>', text) if text else ""


def line(text: str) -> Any:
    """Return the first line of a text, cut if it is long, and on hover the whole of it."""
    if not text.strip():
        return NOTHING
    first = text.strip().splitlines()[0]
    if first == text.strip() and len(first) <= SHOWN_OF_A_LINE:
        return format_html('<span class="cpl-line">{}</span>', first)
    cut = f"{first[:SHOWN_OF_A_LINE].rstrip()} ..."
    return format_html('<span class="cpl-line" title="{}">{}</span>', text.strip()[:SHOWN_ON_HOVER], cut)


def link(url: str, text: Any) -> Any:
    return format_html('<a class="cpl-link" href="{}">{}</a>', url, text)


def first_names(names: Sequence[str], most: int = 6) -> str:
    """Return ``alice, bob and 3 more``: the first names, and how many others there are."""
    more = gettext(" and {number} more").format(number=len(names) - most) if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(number: int, model: Any, limit: int = 0) -> str:
    """Return ``12 executions``; ``more than 10,000 executions`` above the limit, if there is one."""
    name = model._meta.verbose_name if number == 1 else model._meta.verbose_name_plural
    return (
        gettext("more than {number:,} {what}").format(number=limit, what=name)
        if limit and number > limit
        else f"{number:,} {name}"
    )
