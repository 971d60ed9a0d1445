"""The fewest rows of which results may tell anything, as the parties' policies say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workers.computing.context import Context, LeastRows
from workers.computing.telling import told_by
from workers.contract.catalogue import TABLE
from workers.contract.errors import ConfigError
from workers.host.sources import Source
from workers.host.tables import count_rows


def check_intersection(least: LeastRows, rows: int) -> None:
    """Raise ConfigError, which does not say how many, if the parties have too few rows in common."""
    if rows < least.intersection:
        raise ConfigError(
            "the parties have fewer rows in common than the {:,} that their policies ask for (min_intersection_rows), "
            "so nothing is kept or told",
            least.intersection,
        )


def check_groups(least: LeastRows, are_large: bool) -> None:
    """Raise ConfigError, which does not say which, unless all groups are large enough."""
    if not are_large:
        raise ConfigError(
            "a group has fewer rows than the {:,} that the parties' policies ask for (min_group_rows), so nothing is "
            "kept or told",
            least.group,
        )


def check_tables(least: LeastRows, sources: Iterable[Source]) -> None:
    """Raise ConfigError if one of this party's tables has fewer rows than its own policy asks of a group."""
    for table in {source.path: source for source in sources if source.kind == TABLE}.values():
        if least.group > 1 and count_rows(table.path, table.name) < least.group:
            raise ConfigError("dataset {} has fewer rows than min_group_rows of its party.toml", table.name)


def agreed(context: Context) -> LeastRows:
    """Return the parties' minimum. Every party has to call it."""
    mine = (context.least_rows.intersection, context.least_rows.group)
    told = told_by(context.parties, mine).values()
    return LeastRows(*(max(least) for least in zip(*told, strict=True)))


def check_own_groups(context: Context, sizes: Iterable[Any], least: LeastRows | None = None) -> None:
    """Raise ConfigError, at all parties, if one of them has a group that is too small. Every party calls it with the
    sizes of its own groups, which the others do not learn; groups without a row are none. ``least``: if agreed."""
    least = least or agreed(context)
    if least.group > 1:
        are_large = all(size >= least.group for size in sizes if size)
        check_groups(least, all(told_by(context.parties, are_large).values()))
