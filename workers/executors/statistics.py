"""Statistics over columns of several parties: all parties learn the figures, and nobody the values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from workers.components.definition import Columns, components
from workers.components.run import Runner
from workers.components.shares import HIGH_PRECISION, with_spu
from workers.computing.telling import told_by
from workers.contract.catalogue import Catalogue
from workers.contract.documents import Document, SFInitConfig, TaskConfig
from workers.contract.errors import AlgorithmError, ConfigError
from workers.contract.problems import Problem
from workers.contract.results import ReportsResult
from workers.executors.standard import standardized
from workers.executors.vertical import (
    PartyColumns,
    VerticalExecutor,
    check_no_outputs,
    check_party_columns,
    listed,
    own_names,
    private_table,
)
from workers.host.tables import read_columns

#: Largest reliable factor. The SPU inverts by iterations, which stop before larger factors: it gives 20,000 to 200,000
#: for an infinite factor, and a small number for a column that contributes little to it.
MOST_INFLATION = 1e4
COLLINEAR = "collinear"


class StatisticsParams(Document):
    """Parameters of a statistic."""

    columns: PartyColumns = Field(description="For each party the columns to compute the statistic of.")


@dataclass(slots=True)
class Prepared:
    params: StatisticsParams
    #: Numbers by the column's own name, standardized: float64, (rows,).
    numbers: dict[str, Any]


def _in_our_words(value: Any, shown: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {shown.get(key, key): _in_our_words(entry, shown) for key, entry in value.items()}
    if isinstance(value, list):
        return [_in_our_words(entry, shown) for entry in value]
    if isinstance(value, str):
        prefix, _, name = value.rpartition("/")  # such as feature/alice_age
        return shown.get(name, value) if prefix in ("", "feature") else value
    return value


def example_of(task_type: str) -> dict[str, Any]:
    """Return an example of a task type with these parameters."""
    columns = {"alice": ["mean_radius", "mean_texture"], "bob": ["worst_area", "worst_smoothness"]}
    return {
        "task_type": task_type,
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "algorithm_params": {"statistics_params": {"columns": columns}},
    }


class _MomentsExecutor(VerticalExecutor):
    """Base of statistics that a component computes on secret shares of several parties' columns. SecretFlow scales
    columns by n and divides their products by n - 1, so that a column's correlation with itself is n / (n - 1). That is
    corrected here.
    """

    params_key = "statistics_params"
    Params: ClassVar[type[Document]] = StatisticsParams
    Result = ReportsResult
    preload = ("secretflow.component.core", "pyarrow.csv")
    component: ClassVar[str]

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        path = f"algorithm_params.{cls.params_key}.columns"
        yield from check_party_columns(params.columns, task, cluster, catalogue, path)
        yield from check_no_outputs(task)

    @classmethod
    def lines_up(cls, params: StatisticsParams, party: str) -> bool:
        return party in params.columns

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params: StatisticsParams = self.parse_params(algorithm_params)
        names, source = own_names(params.columns).get(self.context.party, {}), self.context.source
        if not names:
            return Prepared(params, {})
        # It reports columns without numbers, or with empty values
        table = read_columns(source.path, source.name, list(names))
        least = 1 + self.unknowns(params)
        if len(table) < least:
            raise ConfigError("dataset {} has {} rows; this takes {} or more", source.name, len(table), least)
        numbers = {}
        for (column, own), values in zip(names.items(), table.T, strict=True):
            if values.min() == values.max():
                raise ConfigError(
                    "column {!r} of dataset {} has the same value in each row; leave it out: it varies with no other",
                    column,
                    source.name,
                )
            # This changes neither figure, and makes the column's unit irrelevant
            numbers[own] = standardized(values)
        return Prepared(params, numbers)

    def adapted(self, algorithm_params: Prepared, devices: Mapping[str, Any]) -> Mapping[str, Any]:
        return with_spu(devices, HIGH_PRECISION)

    @classmethod
    def shapes_devices(cls, params: Any) -> Any:
        return dict(HIGH_PRECISION)

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        prepared, context = algorithm_params, self.context
        runner, names = Runner(context), own_names(prepared.params.columns)
        context.progress(0.1)
        features = listed(names)
        source = private_table(context, prepared.numbers, "rows")
        table = runner.table("rows", Columns(features=features), source, of_two=True)
        chosen = {"input/input_ds/feature_selects": [name for mine in features.values() for name in mine]}
        found = runner.run(components()[self.component], chosen, [table])
        context.progress(1.0)
        shown = {own: f"{party}.{column}" for party, mine in names.items() for column, own in mine.items()}
        return self.corrected(_in_our_words(runner.reports(found), shown), prepared)

    @staticmethod
    def unknowns(params: StatisticsParams) -> int:
        return 1

    @staticmethod
    def factor(rows: int) -> float:
        """Return the factor that corrects each figure."""
        raise NotImplementedError

    def corrected(self, result: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
        """Return the component's result, corrected."""
        owner = next(iter(prepared.params.columns))  # this party has columns, and so numbers
        rows = told_by([owner], len(next(iter(prepared.numbers.values()), ())))[owner]
        found: dict[str, Any] = _times(result, self.factor(rows))
        return found


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, dict):
        return {key: _times(entry, factor) for key, entry in value.items()}
    if isinstance(value, list):
        return [_times(entry, factor) for entry in value]
    return value * factor if isinstance(value, float) else value


def _bounded(cell: Any, is_own: bool) -> Any:
    if not isinstance(cell, float):
        return cell
    return 1.0 if is_own else min(max(cell, -1.0), 1.0)


class CorrelationExecutor(_MomentsExecutor):
    """Computes Pearson's correlation of each pair of columns, across parties, on secret shares."""

    title = "Pearson correlation"
    component = "stats/ss_pearsonr"
    example = example_of("correlation")

    @staticmethod
    def factor(rows: int) -> float:
        return (rows - 1) / rows

    def corrected(self, result: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
        """Return the result without the SPU's rounding: no correlation beyond 1, and 1 for a column with itself."""
        found = super().corrected(result, prepared)
        shown = {f"{party}.{column}" for party, mine in prepared.params.columns.items() for column in mine}
        for report in found["reports"]["report"]:
            for table in report["tables"]:
                names = [name for name in table["columns"] if name in shown]
                table["rows"] = [
                    [_bounded(cell, name == own) for name, cell in zip(table["columns"], row, strict=True)]
                    for own, row in zip(names, table["rows"], strict=False)
                ]
        return found


class VIFExecutor(_MomentsExecutor):
    """Computes the variance inflation factor of each column, on secret shares: how well the other columns, including
    those of other parties, predict it. Columns above 10 are mostly left out of a model. Columns that follow from others
    exactly, or so nearly that the factor is above 10,000, are reported as "collinear". The factors of the other columns
    are then null: leave one of the collinear columns out to get them."""

    title = "Variance inflation factor"
    component = "stats/ss_vif"
    example = example_of("vif")

    @staticmethod
    def unknowns(params: StatisticsParams) -> int:
        return sum(len(columns) for columns in params.columns.values())

    @staticmethod
    def factor(rows: int) -> float:
        return rows / (rows - 1)

    def corrected(self, result: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
        found = super().corrected(result, prepared)
        [report] = found["reports"]["report"]
        values: dict[str, float] = report["values"]
        # Columns that depend on each other exactly have no inverse, and the result can be any number
        if any(value < 0.999 for value in values.values()):
            raise AlgorithmError("some columns follow from others exactly, or nearly so; leave one of them out")
        collinear = [column for column, value in values.items() if value > MOST_INFLATION]
        if collinear:
            report["values"] = {column: COLLINEAR if column in collinear else None for column in values}
            self.context.warnings.append(
                f"{', '.join(collinear)} are collinear: each follows from the other columns, exactly or nearly so. "
                "Leave one of them out and run again; until then no other column's factor can be told."
            )
        return found
