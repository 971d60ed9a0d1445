"""Replaces many rows of totals by their sum."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db.models import Count
from django.db.transaction import atomic
from django.utils import timezone

from executions.models import Hour, Total

#: So many rows more than there are kinds are left alone, and about so many rows are replaced in one transaction.
ENOUGH, MOST = 500, 2000
#: Of each kind of totals: what makes rows be of one kind, by which of these they are chosen, and what is summed.
KINDS: Sequence[tuple[Any, Sequence[str], str, Sequence[str]]] = (
    (Total, ("metric", "labels", "bound"), "labels", ("number", "seconds")),
    (Hour, ("hour", "party_set_id", "status"), "hour", ("number", "waited", "ran")),
)
#: Hours that began before have been summed up, or never will be.
LATE = timedelta(days=1)


def merge() -> bool:
    """Replace rows of the same kind by their sum, if there are many; the most frequent kinds first. Returns whether
    there were. Forgets hours that are no longer drawn.

    Two coordinators may be at it: each leaves the rows alone that the other one holds. Nobody else changes a row.
    """
    Hour.forget()
    return sum(_merge(*kind) for kind in KINDS) > 0


def _merge(model: Any, kind: Sequence[str], by: str, sums: Sequence[str]) -> bool:
    # A sum of two rows and one of three are both right: it does not matter which are there yet
    rows = model.objects.filter(hour__gte=timezone.now() - LATE) if model is Hour else model.objects.all()
    kinds = rows.order_by().values(*kind).annotate(rows=Count("pk"))
    crowded = list(kinds.filter(rows__gt=1).order_by("-rows"))
    if sum(found["rows"] - 1 for found in crowded) < ENOUGH:
        return False
    chosen, room = set(), MOST
    for found in crowded:
        if room > 0:
            chosen.add(found[by])
            room -= found["rows"]
    with atomic():
        held = model.objects.select_for_update(skip_locked=True, of=("self",)).filter(**{f"{by}__in": chosen})
        by_kind: dict[tuple[Any, ...], list[Any]] = {}
        for row in held.order_by("pk"):
            by_kind.setdefault(tuple(getattr(row, name) for name in kind), []).append(row)
        several = {key: rows for key, rows in by_kind.items() if len(rows) > 1}
        model.objects.filter(pk__in=[row.pk for rows in several.values() for row in rows]).delete()
        model.objects.bulk_create(
            model(**dict(zip(kind, key, strict=True)), **{name: sum(getattr(r, name) for r in rows) for name in sums})
            for key, rows in several.items()
        )
    return True
