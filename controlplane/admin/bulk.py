"""Actions on several rows of a list: the page that asks, and what is said afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext

from controlplane.admin.confirm import confirm_page
from controlplane.admin.shown import counted

#: Rows of one action.
MOST_AT_ONCE = 500
#: Rows that the page names.
_NAMED = 10
_CONFIRMED = "confirmed"


def chosen(request: HttpRequest, rows: QuerySet[Any]) -> list[Any]:
    """Return the keys of the rows that were chosen, the oldest first; none, and says so, if they are too many."""
    keys = list(rows.prefetch_related(None).values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
    if len(keys) > MOST_AT_ONCE:
        messages.error(
            request,
            gettext("Choose at most {number} rows at once. Nothing was done.").format(number=MOST_AT_ONCE),
        )
        return []
    return keys[::-1]


def is_confirmed(request: HttpRequest) -> bool:
    """Return whether the page that asks was answered with yes."""
    return _CONFIRMED in request.POST


def ask(
    model_admin: Any,
    request: HttpRequest,
    rows: Iterable[Any],
    question: str,
    button: str,
    button_class: str = "cp-button-primary",
    note: str = "",
) -> HttpResponse:
    """Return the page that asks before an action: of how many rows, and of which. ``question`` has a gap for the
    number."""
    rows = list(rows)
    names = ", ".join(str(row) for row in rows[:_NAMED])
    more = gettext(", and {number} more").format(number=len(rows) - _NAMED) if len(rows) > _NAMED else ""
    hidden = [("action", request.POST["action"]), (_CONFIRMED, "yes")]
    hidden += [(ACTION_CHECKBOX_NAME, str(row.pk)) for row in rows]
    return confirm_page(
        model_admin,
        request,
        question.format(counted(len(rows), model_admin.model)),
        button,
        request.get_full_path(),
        button_class,
        facts=[(gettext("Which"), names + more), *([(gettext("Note"), note)] if note else [])],
        hidden=hidden,
    )


#: What is said of one row, and of several or none.
Said = tuple[Any, Any]


def tell(request: HttpRequest, done: int, said: Said, others: Iterable[tuple[int, Said]]) -> None:
    """Say in one sentence what was done, and what was not and why. Each text comes with its number."""
    parts = [f"{number} {words[number != 1]}" for number, words in ((done, said), *others) if number or words is said]
    (messages.success if done else messages.warning)(request, f"{'; '.join(parts)}.")
