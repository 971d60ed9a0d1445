"""Results of several executions of one task, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.utils.translation import gettext

from executions.results.blocks import Bars, Block, Chart, Figures, Found


def side_by_side(results: Sequence[tuple[str, Found]]) -> list[Block]:
    """Return blocks that hold the results of all executions, each a name and what it found: figures in a column each,
    curves in one picture."""
    titles = dict.fromkeys(block.title for _, found in results for block in found.blocks)
    return [block for title in titles for block in _merged(title, results)]


def _merged(title: str, results: Sequence[tuple[str, Found]]) -> Iterator[Block]:
    having = [(name, _titled(title, found)) for name, found in results]
    first = next(block for _, block in having if block)
    if isinstance(first, Chart):
        yield from _overlaid(first, [(name, block) for name, block in having if isinstance(block, Chart)])
    elif isinstance(first, Figures | Bars) or (len(first.columns) == 2 and len(first.rows) < 100):
        yield _columns(first, having)


def _titled(title: str, found: Found) -> Block | None:
    return next((block for block in found.blocks if block.title == title), None)


def _columns(first: Block, having: Sequence[tuple[str, Block | None]]) -> Block:
    """Return the last figure of each row by its name, a column for each execution."""
    values = [{str(row[0]): row[-1] for row in block.rows} if block else {} for _, block in having]
    names = dict.fromkeys(name for found in values for name in found)
    rows = [[name, *(found.get(name) for found in values)] for name in names]
    return Block(
        title=first.title, columns=[first.columns[0] or gettext("Name"), *(name for name, _ in having)], rows=rows
    )


def _overlaid(first: Chart, having: Sequence[tuple[str, Chart]]) -> Iterator[Block]:
    # A picture of several curves of each execution would show none of them well
    if any(sum(not dashed for *_, dashed in block.curves) > 1 for _, block in having):
        return
    curves: list[Any] = [
        (name, points, False) for name, block in having for _, points, dashed in block.curves if not dashed
    ]
    rows = [[name, *point] for name, points, _ in curves for point in points]
    yield Chart(
        title=first.title,
        text=first.text if first.is_unit else "",
        columns=[gettext("Execution"), first.across, first.up],
        rows=rows,
        across=first.across,
        up=first.up,
        curves=[*curves, *(curve for curve in first.curves if curve[2])],
        is_unit=first.is_unit,
        is_bars=first.is_bars,
        labels=first.labels,
        is_folded=True,
    )
