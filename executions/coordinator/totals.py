"""Replaces many rows of totals by their sum."""

from __future__ import annotations

from django.db.models import Count
from django.db.transaction import atomic

from executions.models import Total

#: So many rows more than there are kinds are left alone, and about so many rows are replaced in one transaction.
ENOUGH, MOST = 500, 2000


def merge() -> bool:
    """Replace rows of the same kind by their sum, if there are many; the most frequent kinds first. Returns whether
    there were.

    Two coordinators may be at it: each leaves the rows alone that the other one holds. Nobody else changes a row.
    """
    # A sum of two rows and one of three are both right: it does not matter which are there yet
    kinds = Total.objects.order_by().values("metric", "labels", "bound").annotate(rows=Count("pk"))
    crowded = list(kinds.filter(rows__gt=1).order_by("-rows"))
    if sum(kind["rows"] - 1 for kind in crowded) < ENOUGH:
        return False
    chosen, room = set(), MOST
    for kind in crowded:
        if room > 0:
            chosen.add(kind["labels"])
            room -= kind["rows"]
    with atomic():
        held = Total.objects.select_for_update(skip_locked=True, of=("self",)).filter(labels__in=chosen)
        by_kind: dict[tuple[str, str, float | None], list[Total]] = {}
        for row in held.order_by("pk"):
            by_kind.setdefault((row.metric, row.labels, row.bound), []).append(row)
        several = {kind: rows for kind, rows in by_kind.items() if len(rows) > 1}
        Total.objects.filter(pk__in=[row.pk for rows in several.values() for row in rows]).delete()
        Total.objects.bulk_create(
            Total(
                metric=metric,
                labels=labels,
                bound=bound,
                number=sum(row.number for row in rows),
                seconds=sum(row.seconds for row in rows),
            )
            for (metric, labels, bound), rows in several.items()
        )
    return True
