"""The blocks that a result is shown in. Each has its numbers as a table, for reading, sorting and download; some have a
picture of them beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.utils.translation import gettext

from executions.results.figures import cut, is_number, shown

#: Rows of a table that the page shows. The download has all of them.
MOST_ROWS = 200
Cells = Sequence[Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A table of figures. ``text`` says in a sentence what it shows."""

    kind: ClassVar[str] = "table"

    title: str
    columns: Sequence[str]
    rows: Cells
    text: str = ""
    #: Rows of the report that are not in the result.
    left_out: int = 0
    #: Whether its numbers are folded away beside a picture, or it is one of many.
    is_folded: bool = False

    @property
    def template(self) -> str:
        return f"executions/results/{self.kind}.html"

    @property
    def heads(self) -> list[tuple[str, bool]]:
        """Return the columns, each with whether it holds numbers."""
        some = self.rows[:MOST_ROWS]
        return [
            (name, any(is_number(row[i]) for row in some) and all(row[i] is None or is_number(row[i]) for row in some))
            for i, name in enumerate(self.columns)
        ]

    @property
    def cells(self) -> list[list[tuple[str, Any, bool]]]:
        """Return the rows that are shown: of each cell its text, what it is sorted by, and whether it is a number."""
        numbers = [is_numeric for _, is_numeric in self.heads]
        return [
            [
                (shown(cell), cell if is_number(cell) else cut(str(cell), 100), is_numeric)
                for cell, is_numeric in zip(row, numbers, strict=True)
            ]
            for row in self.rows[:MOST_ROWS]
        ]

    @property
    def unshown(self) -> int:
        """Return how many rows the page leaves to the download."""
        return max(len(self.rows) - MOST_ROWS, 0)


@dataclass(frozen=True, kw_only=True)
class Figures(Block):
    """Single figures, large: the first column is their name."""

    kind: ClassVar[str] = "figures"


@dataclass(frozen=True, kw_only=True)
class Bars(Block):
    """One bar a row, for the last column; the first is its name. ``bands``: limits, and what lies up to them."""

    kind: ClassVar[str] = "bars"

    bands: Sequence[tuple[float, Any, str]] = ()

    @property
    def bars(self) -> list[dict[str, Any]]:
        """Return for each row its name, figure, width in percent of the longest bar, and band with its colour."""
        values = [row[-1] for row in self.rows[:MOST_ROWS]]
        longest = max((abs(value) for value in values if is_number(value)), default=0) or 1
        found = []
        for row, value in zip(self.rows, values, strict=False):
            is_shown = is_number(value)
            word, colour = self._band(value) if is_shown else ("", "default")
            width = round(100 * abs(value) / longest, 2) if is_shown else 0
            is_negative = is_shown and value < 0
            found.append(
                {"name": cut(str(row[0]), 100), "shown": shown(value), "width": width, "negative": is_negative}
                | {"word": word, "colour": colour}
            )
        return found

    def _band(self, value: float) -> tuple[str, str]:
        return next(((word, colour) for limit, word, colour in self.bands if value <= limit), ("", "info"))


@dataclass(frozen=True, kw_only=True)
class HeatMap(Block):
    """A matrix of figures from -1 to 1 with the same names on both sides; the first column has the names."""

    kind: ClassVar[str] = "heat_map"

    @property
    def matrix(self) -> list[tuple[str, list[tuple[str, str, int, bool]]]]:
        """Return the rows: the name, and of each cell its text, exact figure, strength (0 to 100) and sign."""
        return [
            (
                cut(str(row[0]), 100),
                [
                    (f"{cell:.2f}".replace("-0.00", "0.00"), shown(cell), round(100 * min(abs(cell), 1)), cell < 0)
                    if is_number(cell)
                    else ("-", "-", 0, False)
                    for cell in row[1:]
                ],
            )
            for row in self.rows[:MOST_ROWS]
        ]


@dataclass(frozen=True, kw_only=True)
class Chart(Block):
    """Curves. The chart library draws them from ``plot``; the table has the same numbers."""

    kind: ClassVar[str] = "chart"

    across: str
    up: str
    #: Of each curve: its name, its points (x, y), and whether it is a reference that is drawn dashed.
    curves: Sequence[tuple[str, Sequence[tuple[float, float]], bool]]
    #: Whether both axes go from 0 to 1.
    is_unit: bool = False
    is_bars: bool = False
    #: What stands along the axis instead of numbers; the x of each point is then an index.
    labels: Sequence[str] = ()
    is_stacked: bool = False
    #: Names of the style sheet's colours, one a curve; the usual ones if there are none.
    colours: Sequence[str] = ()

    @property
    def plot(self) -> dict[str, Any]:
        return {
            "across": self.across,
            "up": self.up,
            "unit": self.is_unit,
            "bars": self.is_bars,
            "stacked": self.is_stacked,
            "colours": self.colours,
            "labels": [cut(label, 60) for label in self.labels],
            "curves": [{"name": name, "points": points, "dashed": dashed} for name, points, dashed in self.curves],
        }


@dataclass(frozen=True, kw_only=True)
class Confusion(Block):
    """Confusion matrices, one a threshold: the columns are threshold, true positives, false positives, false negatives
    and true negatives."""

    kind: ClassVar[str] = "confusion"

    @property
    def start(self) -> int:
        """Return the index of the row whose threshold is nearest to 0.5."""
        return min(range(len(self.rows)), key=lambda i: abs(self.rows[i][0] - 0.5))

    @property
    def first(self) -> list[str]:
        """Return the row at ``start``, as text."""
        return [shown(cell) for cell in self.rows[self.start]]

    @property
    def last(self) -> int:
        return len(self.rows) - 1

    @property
    def rates(self) -> list[tuple[str, str]]:
        """Return precision, recall, F1, accuracy and the rate of false alarms at ``start``; results.js computes them
        for the other thresholds."""
        _, hits, alarms, missed, quiet = self.rows[self.start]
        parts = (
            (gettext("Precision"), hits, hits + alarms),
            (gettext("Recall"), hits, hits + missed),
            ("F1", 2 * hits, 2 * hits + alarms + missed),
            (gettext("Accuracy"), hits + quiet, hits + alarms + missed + quiet),
            (gettext("False positive rate"), alarms, alarms + quiet),
        )
        return [(name, f"{part / whole:.3f}" if whole else "-") for name, part, whole in parts]

    @property
    def plot(self) -> Cells:
        return self.rows


@dataclass(frozen=True, kw_only=True)
class Overlap(Block):
    """Two tables and what they have in common, as two circles."""

    kind: ClassVar[str] = "overlap"

    left: str
    right: str
    only_left: int
    only_right: int
    both: int

    @property
    def shown_left(self) -> str:
        return shown(self.only_left + self.both)

    @property
    def shown_right(self) -> str:
        return shown(self.only_right + self.both)

    @property
    def shown_both(self) -> str:
        return shown(self.both)

    @property
    def circles(self) -> dict[str, float]:
        """Return the circles for a drawing 360 wide and 160 high: their areas are in proportion, and they overlap as
        far as their rows do, but never so little that a word does not fit."""
        left, right = self.only_left + self.both, self.only_right + self.both
        largest = max(left, right, 1)
        r1, r2 = (max(28.0, 70.0 * (size / largest) ** 0.5) for size in (left, right))
        share = self.both / max(min(left, right), 1)
        apart = (r1 + r2) * (1 - 0.6 * share) if self.both else r1 + r2 + 6
        if share == 1:
            apart = max(abs(r1 - r2), 0.0)
        # In the middle of the drawing
        x1 = 180 - (apart + r2 - r1) / 2
        x2 = x1 + apart
        inside = (max(x1 - r1, x2 - r2) + min(x1 + r1, x2 + r2)) / 2
        return {"x1": x1, "x2": x2, "r1": r1, "r2": r2, "middle": inside}


@dataclass(frozen=True, kw_only=True)
class Found:
    """A result as the page shows it."""

    #: The answer in a sentence; empty if there is none to give.
    headline: str = ""
    warnings: Sequence[str] = field(default_factory=list)
    blocks: Sequence[Block] = field(default_factory=list)
    #: Blocks that the page leaves out.
    more_blocks: int = 0
    more_warnings: int = 0
