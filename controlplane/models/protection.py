"""Protects rows that others refer to, however many those are."""

from __future__ import annotations

from typing import Any

from django.db.models import JSONField, ProtectedError, QuerySet

#: How many of the rows that refer to a protected one are named, at most.
MOST_NAMED = 20


def protect(collector: Any, field: Any, sub_objs: QuerySet[Any], using: str) -> None:
    """Refuse to delete what ``sub_objs`` refer to. Takes one query, and raises ProtectedError with a few of them.

    Use it as ``on_delete`` instead of Django's PROTECT, which first loads all of them: a party that has run for a year
    has a million runs.
    """
    documents = [f.name for f in sub_objs.model._meta.concrete_fields if isinstance(f, JSONField)]
    # Django leaves out all fields but the key, and would then fetch those of each row to name it
    rows = sub_objs.defer(None).defer(*documents).select_related(field.name)
    if some := list(rows[: MOST_NAMED + 1]):
        name = field.remote_field.model._meta.verbose_name
        raise ProtectedError(f"Some {some[0]._meta.verbose_name_plural} refer to this {name}.", set(some))


# Django otherwise loads the rows to see whether there are any
protect.lazy_sub_objs = True  # type: ignore[attr-defined]
