"""Blocks of reports: tables and values by name, as SecretFlow's components tell them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from executions.results import curves
from executions.results.blocks import Bars, Block, Chart, Figures, HeatMap
from executions.results.figures import cut, is_number, name_of, number_in, shown, tidied, title_of
from workers.contract.results import Report, Table

#: Upper limit, word and colour of what one figure a column says: the index of stability, the inflation of variance,
#: the value of information, and the probability of a coefficient by chance.
PSI_BANDS = (
    (0.1, _("stable"), "success"),
    (0.25, _("has shifted"), "warning"),
    (float("inf"), _("has changed"), "danger"),
)
VIF_BANDS = ((5.0, _("low"), "success"), (10.0, _("moderate"), "warning"), (float("inf"), _("high"), "danger"))
IV_BANDS = (
    (0.02, _("tells nothing"), "default"),
    (0.1, _("weak"), "info"),
    (0.3, _("medium"), "info"),
    (float("inf"), _("strong"), "success"),
)
P_BANDS = ((0.05, _("significant"), "success"), (float("inf"), _("not significant"), "default"))
_BANDS = {
    "psi": ("PSI", PSI_BANDS),
    "vif": ("VIF", VIF_BANDS),
    "iv": ("IV", IV_BANDS),
    "pvalue": ("p-value", P_BANDS),
}
#: Tables after the first few of a result are folded.
OPEN_TABLES = 3
#: A table with more columns than this, and fewer rows than columns, is turned.
WIDE = 10


def headline(reports: Mapping[str, Sequence[Report]]) -> str:
    """Return the most telling figure of reports with one figure a column, in a sentence; empty if there is none."""
    for block in blocks(reports):
        if isinstance(block, HeatMap):
            return _strongest(block)
        if isinstance(block, Figures) and (good := how_good({str(row[0]): row[-1] for row in block.rows})):
            return good
        if not isinstance(block, Bars) or not block.bands:
            continue
        if told := [row for row in block.rows if is_number(row[-1])]:
            if block.bands is P_BANDS:
                few = sum(row[-1] <= P_BANDS[0][0] for row in told)
                return ngettext(
                    "{few} of {all} coefficients is significant (p at most 0.05).",
                    "{few} of {all} coefficients are significant (p at most 0.05).",
                    few,
                ).format(few=few, all=len(told))
            top = max(told, key=lambda row: row[-1])
            measure, name = block.columns[-1], cut(str(top[0]), 100)
            return gettext("The highest {measure} of {number} columns is {highest}, of {name}.").format(
                measure=measure, number=len(block.rows), highest=shown(top[-1]), name=name
            )
    return ""


def how_good(figures: Mapping[str, Any]) -> str:
    """Return the two most telling metrics of a model in a sentence, from figures by their names in words; empty if
    there is none."""
    told = {name: figures[name] for name in ("AUC", "R²", "KS", "RMSE") if is_number(figures.get(name))}
    if not told:
        return ""
    first = ", ".join([f"{name} {value:.3g}" for name, value in told.items()][:2])
    rows = figures.get(gettext("Rows"))
    return gettext("{figures} on {rows:,} rows.").format(figures=first, rows=rows) if rows else f"{first}."


def _strongest(block: HeatMap) -> str:
    names = block.columns[1:]
    pairs = [(abs(row[j + 1]), row[j + 1], names[i], names[j]) for i, row in enumerate(block.rows)
             for j in range(i) if is_number(row[j + 1])]  # fmt: skip
    if not pairs:
        return ""
    _, figure, one, other = max(pairs, key=lambda pair: pair[0])
    return gettext("The strongest correlation is {highest}, of {one} and {other}.").format(
        highest=shown(round(figure, 3)), one=cut(one, 100), other=cut(other, 100)
    )


def blocks(reports: Mapping[str, Sequence[Report]]) -> Iterator[Block]:
    """Yield the blocks of reports, in their order."""
    made = 0
    for key, found in reports.items():
        for report in found:
            name = report.name or key
            if report.values:
                yield _of_values(name, report.values)
                made += 1
            for table in report.tables:
                for block in _of_table(table, name, is_folded=made >= OPEN_TABLES):
                    yield block
                    made += 1


def falling(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return rows by falling last figure; what is no number comes last."""
    return sorted(rows, key=lambda row: -row[-1] if is_number(row[-1]) else float("inf"))


def _of_values(name: str, values: Mapping[str, Any]) -> Block:
    measure, bands = _BANDS.get(name, ("", ()))
    if bands:
        rows = [[column.removeprefix("feature/"), number_in(value)] for column, value in values.items()]
        return Bars(title=_title(name, measure), columns=[gettext("Column"), measure], rows=falling(rows), bands=bands)
    named = [[name_of(figure), number_in(value)] for figure, value in values.items()]
    return Figures(title=title_of(name), columns=[gettext("Figure"), gettext("Value")], rows=named)


def _title(name: str, measure: str) -> str:
    return {"vif": gettext("Variance inflation factor (VIF)"), "pvalue": gettext("p-values of the coefficients")}.get(
        name, measure
    )


def _of_table(table: Table, name: str, is_folded: bool) -> Iterator[Block]:
    title, columns = title_of(table.name or name), list(table.columns)
    rows = [[number_in(cell) for cell in row] for row in table.rows if len(row) == len(columns)]
    # A row of another length is a mistake of whoever wrote it: its cells have no names
    left_out = table.left_out + len(table.rows) - len(rows)
    common: dict[str, Any] = {"title": title, "left_out": left_out, "is_folded": is_folded}
    if name == "corr" and _is_matrix(columns, rows):
        named = [[column, *row] for column, row in zip(columns, rows, strict=True)]
        yield HeatMap(columns=[gettext("Column"), *columns], rows=named, **common)
        return
    if picture := _picture(name, columns, rows, common):
        yield from picture
        return
    if len(columns) > WIDE and len(rows) < len(columns):
        turned = [list(column) for column in zip(columns, *rows, strict=True)]
        yield Block(columns=[str(cell) for cell in turned[0]], rows=turned[1:], **common)
        return
    yield Block(columns=columns, rows=rows, **common)


def _is_matrix(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bool:
    return len(rows) == len(columns) > 1 and all(c is None or is_number(c) for row in rows for c in row)


def _picture(
    name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], common: Mapping[str, Any]
) -> list[Block] | None:
    """Return the blocks of a table of which there is a picture; None if there is none."""
    if not rows or not columns:
        return None
    at = {column: index for index, column in enumerate(columns)}
    if columns == ["feature", "PSI"]:
        return [Bars(columns=[gettext("Column"), "PSI"], rows=falling(rows), bands=PSI_BANDS, **common)]
    if columns == ["Label", "PSI", "Base Ratio", "Test Ratio"]:
        return [_shares(columns, rows, common)]
    if {"start_value", "positive", "total", "avg_score"} <= set(columns):
        found = [Block(columns=columns, rows=rows, **{**common, "is_folded": True})]
        if name == "eq_frequent_bin_report":
            picked = ([row[at[c]] for c in ("start_value", "total", "positive", "avg_score")] for row in rows)
            bins = sorted((b for b in picked if all(map(is_number, b)) and b[1] > 0), key=lambda b: -b[0])
            found = [*curves.of_classification(bins), *found]
        return found
    if {"avg_prediction", "avg_label"} <= set(columns):
        points = [(row[at["avg_prediction"]], row[at["avg_label"]]) for row in rows]
        if all(is_number(x) and is_number(y) for x, y in points):
            return [curves.calibration(points), Block(columns=columns, rows=rows, **common)]
    if len(rows) == 2 and [row[0] for row in rows] == ["edge_values", "sample_counts"]:
        return _histogram(rows, common)
    if len(columns) == 2 and len(rows) > 1 and any(is_number(row[1]) for row in rows):
        return [Bars(columns=columns, rows=rows, **common)]
    return None


def _shares(columns: Sequence[str], rows: Sequence[Sequence[Any]], common: Mapping[str, Any]) -> Block:
    def bars(index: int) -> list[tuple[float, float]]:
        return [(float(i), row[index] if is_number(row[index]) else 0.0) for i, row in enumerate(rows)]

    return Chart(
        columns=[gettext("Bin"), "PSI", gettext("Share before"), gettext("Share now")],
        rows=[[tidied(str(row[0])), *row[1:]] for row in rows],
        across=gettext("Bin"),
        up=gettext("Share of rows"),
        labels=[tidied(str(row[0])) for row in rows],
        curves=[(gettext("Before"), bars(2), False), (gettext("Now"), bars(3), False)],
        is_bars=True,
        **{**common, "title": gettext("Distribution of {name}").format(name=common["title"])},
    )


def _histogram(rows: Sequence[Sequence[Any]], common: Mapping[str, Any]) -> list[Block] | None:
    edges, counts = rows[0][1:], rows[1][1:]
    if not all(map(is_number, [*edges, *counts])) or len(edges) < 2:
        return None
    # The last edge ends the last bin
    labels = [gettext("{low} to {high}").format(low=shown(low), high=shown(high)) for low, high in pairwise(edges)]
    found = [[label, int(count)] for label, count in zip(labels, counts, strict=False)]
    points = [(float(i), float(count)) for i, (_, count) in enumerate(zip(labels, counts, strict=False))]
    return [
        Chart(
            columns=[gettext("Residual"), gettext("Rows")],
            rows=found,
            across=gettext("Residual"),
            up=gettext("Rows"),
            labels=labels,
            curves=[(gettext("Rows"), points, False)],
            is_bars=True,
            **{**common, "title": gettext("Residuals")},
        )
    ]
