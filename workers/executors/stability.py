"""Population stability: how much the distribution of columns changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field

from workers.computing.cells import Cells, read_numbers
from workers.computing.minimum import check_own_groups
from workers.computing.telling import told_by
from workers.contract.catalogue import NUMERIC, TABLE, Catalogue
from workers.contract.checks import check_column
from workers.contract.documents import SFInitConfig, TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import Problem
from workers.contract.results import ReportsResult
from workers.contract.roles import Roles
from workers.contract.wording import Text
from workers.executors.base import BaseTaskExecutor
from workers.executors.bins import counts, cut_points
from workers.executors.statistics import StatisticsParams
from workers.executors.vertical import check_no_outputs, check_party_columns

TEST = "test"
#: Share that counts for a bin that is empty in one of the tables.
LEAST = 1e-3


class StabilityParams(StatisticsParams):
    """Parameters of population stability."""

    bins: int = Field(default=10, ge=2, le=100, description="Number of bins of a column.")
    method: Literal["quantile", "eq_range"] = Field(
        default="quantile",
        description="quantile: bins of equally many rows of the base table; a value that would fill more than one has "
        "its own. eq_range: bins of equal width.",
    )


@dataclass(slots=True)
class Prepared:
    params: StabilityParams
    base: dict[str, Cells]
    test: dict[str, Cells]


class StabilityExecutor(BaseTaskExecutor):
    """Tells of each column how much its distribution changed between a base table (``data_sources``) and a test table
    (``further_sources.test``): the population stability index, the sum over bins of (t - b) ln(t / b), where b and t
    are the shares of the tables' rows in the bin. Where a bin is empty in one of them, shares below 0.001 count as
    0.001. Bins are those of the base table; the first and the last are open, and empty cells are a bin apart. Each
    party computes it for its own columns, and all parties learn it, with the ends of the bins and the shares. Below 0.1
    little changed, above 0.25 much."""

    title = "Population stability"
    params_key = "stability_params"
    Params = StabilityParams
    Result = ReportsResult
    devices = ()
    preload = ("secretflow", "pyarrow.csv")
    example = {
        "task_type": "stability",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "further_sources": {TEST: {"alice": "in_common", "bob": "in_common"}},
        "algorithm_params": {"stability_params": {"columns": {"alice": ["mean_radius"], "bob": ["worst_area"]}}},
    }

    @classmethod
    def roles(cls, params: Any) -> Roles:
        return Roles(sources={TEST: frozenset({TABLE})})

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        base = f"algorithm_params.{cls.params_key}.columns"
        yield from check_party_columns(params.columns, task, cluster, catalogue, base, NUMERIC)
        named = task.further_sources.get(TEST, {})
        for party, columns in params.columns.items():
            if party in cluster.parties and party not in named:
                yield Problem(f"further_sources.{TEST}.{party}", "is required", f"name a test table of {party}")
            for index, column in enumerate(columns):
                if party in named:
                    path = f"{base}.{party}.{index}"
                    yield from check_column(catalogue, task, party, column, path, NUMERIC, named[party])
        yield from check_no_outputs(task)

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params: StabilityParams = self.parse_params(algorithm_params)
        columns = params.columns.get(self.context.party, [])
        read = []
        for role in ("", TEST) if columns else ():
            source = self.context.sources[role]
            read.append(read_numbers(source.path, source.name, columns))
            for column, cells in read[-1].items():
                if cells.empty.all():
                    lacks = "has no values; leave it out" if len(cells.text) else "has no rows"
                    raise ConfigError("column {!r} of dataset {} {}", column, source.name, Text(lacks))
        base, test = read or ({}, {})
        return Prepared(params, base, test)

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        prepared, params = algorithm_params, algorithm_params.params
        self.context.progress(0.1)
        # Made only where a policy has a minimum: it takes as long as the index itself
        sizes = (
            size
            for column, cells in prepared.base.items()
            for size in _sizes(cells, prepared.test[column], params.bins, params.method)
        )
        check_own_groups(self.context, sizes)
        mine = {
            column: change(cells, prepared.test[column], params.bins, params.method)
            for column, cells in prepared.base.items()
        }
        told = told_by(params.columns, mine)
        self.context.progress(1.0)
        found = {f"{party}.{column}": bins for party, named in told.items() for column, bins in named.items()}
        totals = [[name, math.fsum(row[1] for row in bins)] for name, bins in found.items()]
        tables = [("stats psi summary of all selected features", ["feature", "PSI"], totals)]
        tables += [(name, ["Label", "PSI", "Base Ratio", "Test Ratio"], bins) for name, bins in found.items()]
        return {
            "reports": {
                "report": [
                    {"name": name, "tables": [{"name": "", "columns": columns, "rows": rows}]}
                    for name, columns, rows in tables
                ]
            }
        }


def _sizes(base: Cells, test: Cells, bins: int, method: str) -> list[int]:
    """Return how many rows there are in each bin, in both tables."""
    cuts = cut_points(base.numbers[~base.empty], bins, method)
    return [
        int(size) for cells in (base, test) for size in (*counts(cells.numbers[~cells.empty], cuts), cells.empty.sum())
    ]


def change(base: Cells, test: Cells, bins: int, method: str) -> list[list[Any]]:
    """Return for each bin its name, its part of the index, and its share in both tables."""
    import numpy as np

    cuts = cut_points(base.numbers[~base.empty], bins, method)
    ends = [-math.inf, *map(float, cuts), math.inf]
    names = [f"({low}, {high}]" for low, high in pairwise(ends)]
    shares = [
        np.append(counts(cells.numbers[~cells.empty], cuts), cells.empty.sum()) / len(cells.text)
        for cells in (base, test)
    ]
    return [
        [name, part(float(was), float(now)), float(was), float(now)]
        for name, was, now in zip([*names, "nan values"], *shares, strict=True)
    ]


def part(was: float, now: float) -> float:
    """Return a bin's part of the index."""
    if not (was and now):
        was, now = max(was, LEAST), max(now, LEAST)
    return (now - was) * math.log(now / was)
