"""Statistics of single columns, which each party computes for its own columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workers.computing.cells import Cells, own_rows, read_cells
from workers.computing.telling import told_by
from workers.contract.catalogue import Catalogue
from workers.contract.documents import SFInitConfig, TaskConfig
from workers.contract.problems import Problem
from workers.contract.results import ReportsResult
from workers.executors.base import BaseTaskExecutor
from workers.executors.statistics import StatisticsParams, example_of
from workers.executors.vertical import check_no_outputs, check_party_columns

#: Headings of the report, after the column's name, as in SecretFlow.
HEADINGS = (
    "datatype", "total_count", "count(non-NA count)", "count_na(NA count)", "na_ratio", "min", "max", "mean",
    "var(variance)", "std(standard deviation)", "sem(standard error)", "skew", "kurtosis", "q1(first quartile)",
    "q2(second quartile, median)", "q3(third quartile)", "moment_2", "moment_3", "moment_4", "central_moment_2",
    "central_moment_3", "central_moment_4", "sum", "sum_2", "sum_3", "sum_4",
)  # fmt: skip
TEXT_HEADINGS = ("datatype", "count(non-NA count)", "nunique", "count_na(NA count)")


@dataclass(slots=True)
class Prepared:
    params: StatisticsParams
    cells: dict[str, Cells]
    rows: int


class TableStatisticsExecutor(BaseTaskExecutor):
    """Computes for each column of numbers how many values it has and lacks, its range, mean, deviation, quartiles,
    moments and sums, as pandas defines them (variance, deviation and standard error divided by n - 1, skew and kurtosis
    corrected for bias, quartiles interpolated), and for each column of text or yes and no how many values and different
    values it has. Each party computes those of its own columns, in whole numbers or float64, and all parties learn
    them. The tables need not line up. A figure without a value, such as the variance of one number, is null."""

    title = "Table statistics"
    params_key = "statistics_params"
    Params = StatisticsParams
    Result = ReportsResult
    devices = ()
    preload = ("secretflow", "pyarrow.csv", "pandas")
    example = example_of("table_statistics")

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        path = f"algorithm_params.{cls.params_key}.columns"
        yield from check_party_columns(params.columns, task, cluster, catalogue, path, frozenset())
        yield from check_no_outputs(task)

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params: StatisticsParams = self.parse_params(algorithm_params)
        columns, context = params.columns.get(self.context.party, []), self.context
        rows = own_rows(context) if columns else 0
        return Prepared(params, read_cells(context.input_path, context.source.name, columns), rows)

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        prepared, context = algorithm_params, self.context
        context.progress(0.1)
        mine = {column: figures(cells) for column, cells in prepared.cells.items()}
        numbers, texts = [], []
        for party, found in told_by(prepared.params.columns, mine).items():
            for column, values in found.items():
                if len(values) != len(HEADINGS):
                    texts.append([f"{party}.{column}", *values])
                    continue
                numbers.append([f"{party}.{column}", *(None if value == math.inf else value for value in values)])
                if beyond := [name for name, value in zip(HEADINGS, values, strict=True) if value == math.inf]:
                    context.warnings.append(
                        f"{party}.{column}: {', '.join(beyond)} are above 1e308, beyond float64: scale the column"
                    )
        context.progress(1.0)
        tables = [(HEADINGS, numbers), (TEXT_HEADINGS, texts)]
        return {
            "reports": {
                "report": [
                    {"name": "table statistics", "tables": [{"name": "", "columns": ["", *headings], "rows": rows}]}
                    for headings, rows in tables
                    if rows
                ]
            }
        }


def figures(cells: Cells) -> list[Any]:
    """Return a column's figures in the order of ``HEADINGS`` or ``TEXT_HEADINGS``; infinity if float64 overflows."""
    import numpy as np
    import pandas as pd

    empty = cells.empty
    count, rows = int((~empty).sum()), len(empty)
    if cells.numbers is None or cells.kind == "bool":
        there = cells.text.filter(~empty) if cells.numbers is None else pd.Series(cells.numbers[~empty])
        return ["str" if cells.numbers is None else "bool", count, len(there.unique()), rows - count]
    if cells.kind == "int":
        exact: list[Any] = [int(text) for text in cells.text.filter(~empty).to_pylist()]
    else:
        exact = cells.numbers[~empty].tolist()
    head = [f"{cells.kind}64", rows, count, rows - count, (rows - count) / rows]
    if not count:
        return [*head, *[None] * (len(HEADINGS) - len(head))]
    middle = round(sum(exact) / count) if cells.kind == "int" else _mean(exact)
    # This does not change the spread, and whole numbers above 2^53 keep their differences
    around = pd.Series([float(value - middle) for value in exact])
    with np.errstate(over="ignore", invalid="ignore"):
        unit = around / (around.abs().max() or 1.0)  # pandas treats a small spread as none
        spread = [around.var(), around.std(), around.sem(), unit.skew(), unit.kurt()]
        left = around - around.mean()
        central = [(left**power).mean() for power in (2, 3, 4)]
    sums = [_sum(exact, power) for power in (1, 2, 3, 4)]
    quartiles = [_quantile(sorted(exact), share) for share in (0.25, 0.5, 0.75)]
    moments = [_sum(exact, power, count) for power in (2, 3, 4)]
    all_of_them = [min(exact), max(exact), _sum(exact, 1, count), *spread, *quartiles, *moments, *central, *sums]
    return [*head, *map(_plain, all_of_them)]


def _mean(values: list[float]) -> float:
    found = _sum(values, 1, len(values))
    return found if math.isfinite(found) else 0.0


def _sum(values: list[Any], power: int, count: int | None = None) -> Any:
    """Return the sum of powers, or its mean: exact for whole numbers, rounded once for others."""
    try:
        if all(isinstance(value, int) for value in values):
            total = sum(value**power for value in values)
            return total / count if count else total
        found = math.fsum(value**power for value in values)
        return found / count if count else found
    except OverflowError:
        return math.inf


def _quantile(values: list[Any], share: float) -> Any:
    """Return a quantile, interpolated between its two neighbours as in pandas."""
    place = (len(values) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def _plain(value: Any) -> Any:
    """Return a figure as JSON: whole numbers above 2^53, which not every JSON reader accepts, as float64; None if it is
    not a number."""
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    try:
        number = float(value)
    except OverflowError:
        return math.inf
    return None if math.isnan(number) else math.inf if math.isinf(number) else number
