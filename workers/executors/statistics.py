"""Statistics over columns of several parties; all of them are told the figures, and nobody the values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from workers.components.definition import Columns, components
from workers.components.run import HIGH_PRECISION, Runner, with_spu
from workers.documents import ColumnName, Document, PartyName, SFInitConfig, TaskConfig
from workers.errors import AlgorithmError, ConfigError
from workers.executors.base import NUMERIC, TABLE, Catalogue, Slots, check_column, not_a_party
from workers.executors.vertical import (
    PartyColumns,
    VerticalExecutor,
    check_no_outputs,
    check_party_columns,
    check_range,
    greatest,
    listed,
    own_names,
    private_table,
)
from workers.problems import Problem
from workers.tables import read_columns, read_text

TEST = "test"


class StatisticsParams(Document):
    """Parameters of a statistic."""

    columns: PartyColumns = Field(description="For each party the columns that it is about.")


@dataclass(slots=True)
class Prepared:
    params: Any
    #: Role of a table ("" or "test") to own name of a column to its values.
    values: dict[str, dict[str, Any]]
    #: Column to its numbers, (rows,), where they have to be numbers; of data_sources.
    numbers: dict[str, Any]


class StatisticsExecutor(VerticalExecutor):
    """Base of the task types that tell figures of columns."""

    params_key = "statistics_params"
    Params: ClassVar[type[Document]] = StatisticsParams
    devices: ClassVar[tuple[str, ...]] = ("spu",)
    preload = ("secretflow.component.core", "pyarrow.csv")
    component: ClassVar[str]
    types: ClassVar[frozenset[str]] = NUMERIC
    #: Settings of the SPU that the component asks for.
    spu: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        path = f"algorithm_params.{cls.params_key}.columns"
        yield from check_party_columns(params.columns, task, cluster, catalogue, path, cls.types)
        yield from check_no_outputs(task)

    @classmethod
    def columns(cls, params: Any) -> dict[str, list[str]]:
        """All columns that it is about, by party."""
        return dict(params.columns)

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params = self.parse_params(algorithm_params)
        columns = self.columns(params)
        names, values = own_names(columns).get(self.session.party, {}), {}
        numeric, numbers = self.numeric(params, self.session.party), {}
        for role, source in self.session.sources.items():
            if numeric:
                found = read_columns(source.path, source.name, numeric)  # says which has no numbers, or empty values
                if not role:
                    numbers = dict(zip(numeric, found.T, strict=True))
                    self.check_numbers(params, numbers)
            found = read_text(source.path, source.name, list(names))
            values[role] = {names[column]: written for column, written in found.items()}
        return Prepared(params, values, numbers)

    @classmethod
    def numeric(cls, params: Any, party: str) -> list[str]:
        """The party's columns that have to be numbers, all of them."""
        return cls.columns(params).get(party, []) if cls.types else []

    def check_numbers(self, params: Any, numbers: Mapping[str, Any]) -> None:
        """Raise ConfigError where the figure means nothing for such a table. ``numbers``: column to (rows,)."""

    def adapted(self, algorithm_params: Prepared, devices: Mapping[str, Any]) -> Mapping[str, Any]:
        return with_spu(devices, self.spu)

    @classmethod
    def shapes_devices(cls, params: Any) -> Any:
        return dict(cls.spu) or None

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        runner, names = Runner(self.session), own_names(self.columns(algorithm_params.params))
        self.session.progress(0.1)
        found = self.compute(runner, algorithm_params, names)
        self.session.progress(1.0)
        shown = {own: f"{party}.{column}" for party, mine in names.items() for column, own in mine.items()}
        result: dict[str, Any] = _in_our_words(runner.reports(found), shown)
        return self.corrected(result, algorithm_params)

    def compute(self, runner: Runner, prepared: Prepared, names: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        """Outputs of the component, by name."""
        selected = {f"input/input_ds/{self.select}": [n for mine in names.values() for n in mine.values()]}
        return runner.run(components()[self.component], selected, [self.table(runner, prepared, names)])

    def corrected(self, result: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
        """What the component says, put right."""
        return result

    #: What the component calls its columns.
    select: ClassVar[str] = "feature_selects"

    def table(self, runner: Runner, prepared: Prepared, names: Mapping[str, Mapping[str, str]], role: str = "") -> Any:
        columns = Columns(features=listed(names))
        name = role or "rows"
        return runner.table(
            name, columns, private_table(self.session, prepared.values.get(role, {}), name), of_two=True
        )


def _in_our_words(value: Any, shown: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {shown.get(key, key): _in_our_words(entry, shown) for key, entry in value.items()}
    if isinstance(value, list):
        return [_in_our_words(entry, shown) for entry in value]
    if isinstance(value, str):
        prefix, _, name = value.rpartition("/")  # such as feature/alice_age
        return shown.get(name, value) if prefix in ("", "feature") else value
    return value


def _example(task_type: str) -> dict[str, Any]:
    columns = {"alice": ["mean_radius", "mean_texture"], "bob": ["worst_area", "worst_smoothness"]}
    return {
        "task_type": task_type,
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "algorithm_params": {StatisticsExecutor.params_key: {"columns": columns}},
    }


class TableStatisticsExecutor(StatisticsExecutor):
    """Tells of each column how many values it has and lacks, its range, mean, deviation, quartiles and moments: each
    party computes those of its own columns, and all are told."""

    title = "Table statistics"
    component = "stats/table_statistics"
    select = "features"
    devices = ()
    types = frozenset()
    example = _example("table_statistics")


class _MomentsExecutor(StatisticsExecutor):
    """SecretFlow scales columns by n and divides their products by n - 1, so that a column's correlation with itself
    is n / (n - 1): what it says of n rows is put right here."""

    spu = HIGH_PRECISION

    def check_numbers(self, params: Any, numbers: Mapping[str, Any]) -> None:
        rows = len(next(iter(numbers.values())))
        least = 1 + self.unknowns(params)
        if rows < least:
            raise ConfigError(f"dataset {self.session.source.name} has {rows} rows; this takes {least} or more")
        for column, values in numbers.items():
            if values.min() == values.max():
                raise ConfigError(
                    f"column {column!r} of dataset {self.session.source.name} has the same value in each row; leave it "
                    "out: it varies with no other"
                )

    @staticmethod
    def unknowns(params: StatisticsParams) -> int:
        return 1

    @staticmethod
    def factor(rows: int) -> float:
        """What each figure is multiplied by."""
        raise NotImplementedError

    def corrected(self, result: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
        import secretflow as sf

        owner = next(iter(prepared.params.columns))  # who has columns, and so numbers
        mine = len(next(iter(prepared.numbers.values()), ()))
        rows = sf.reveal(sf.PYU(owner)(lambda count: count)(mine))
        found: dict[str, Any] = _times(result, self.factor(rows))
        return found


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, dict):
        return {key: _times(entry, factor) for key, entry in value.items()}
    if isinstance(value, list):
        return [_times(entry, factor) for entry in value]
    return value * factor if isinstance(value, float) else value


class CorrelationExecutor(_MomentsExecutor):
    """Tells how columns go together, across parties: Pearson's correlation of each pair, on secret shares."""

    title = "Pearson correlation"
    component = "stats/ss_pearsonr"
    example = _example("correlation")

    @staticmethod
    def factor(rows: int) -> float:
        return (rows - 1) / rows


class VIFExecutor(_MomentsExecutor):
    """Tells of each column how well the others, those of other parties too, already say the same: its variance
    inflation factor, on secret shares. Above 10 it is mostly left out of a model."""

    title = "Variance inflation factor"
    component = "stats/ss_vif"
    example = _example("vif")

    @staticmethod
    def unknowns(params: StatisticsParams) -> int:
        return sum(len(columns) for columns in params.columns.values())

    @staticmethod
    def factor(rows: int) -> float:
        return rows / (rows - 1)

    def corrected(self, result: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
        found = super().corrected(result, prepared)
        # Of columns that depend on each other exactly the inverse is none, and what comes instead is any number
        if any(value < 0.999 for value in _floats(found)):
            raise AlgorithmError("some columns follow from others exactly, or nearly so; leave one of them out")
        return found


def _floats(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        entries = value.values() if isinstance(value, dict) else value
        return [number for entry in entries for number in _floats(entry)]
    return [value] if isinstance(value, float) else []


class StabilityParams(StatisticsParams):
    """Parameters of population stability."""

    bins: int = Field(default=10, ge=2, le=100, description="Into how many bins a column is put.")
    method: Literal["quantile", "eq_range"] = Field(
        default="quantile", description="Bins of equally many rows of the base table, or of equal width."
    )


class StabilityExecutor(StatisticsExecutor):
    """Tells of each column how much its distribution changed between a base table (``data_sources``) and a test table
    (``further_sources.test``): the population stability index. Below 0.1 little changed, above 0.25 much."""

    title = "Population stability"
    params_key = "stability_params"
    Params = StabilityParams
    component = "stats/stats_psi"
    devices = ()
    example = {
        "task_type": "stability",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "further_sources": {TEST: {"alice": "in_common", "bob": "in_common"}},
        "algorithm_params": {"stability_params": {"columns": {"alice": ["mean_radius"], "bob": ["worst_area"]}}},
    }

    @classmethod
    def slots(cls, params: Any) -> Slots:
        return Slots(sources={TEST: frozenset({TABLE})})

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        yield from super().check(params, task, cluster, catalogue)
        named = task.further_sources.get(TEST, {})
        for party, columns in params.columns.items():
            if party in cluster.parties and party not in named:
                yield Problem(f"further_sources.{TEST}.{party}", "is required", f"name a test table of {party}")
            for index, column in enumerate(columns):
                path = f"algorithm_params.{cls.params_key}.columns.{party}.{index}"
                if party in named:
                    yield from check_column(catalogue, task, party, column, path, NUMERIC, named[party])

    def compute(self, runner: Runner, prepared: Prepared, names: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        chosen = [n for mine in names.values() for n in mine.values()]
        base = self.table(runner, prepared, names)
        test = self.table(runner, prepared, names, TEST)
        attributes = {
            "bin_num": prepared.params.bins,
            "binning_method": prepared.params.method,
            "report_rules": False,
            "input/input_ds/feature_selects": chosen,
        }
        rule = runner.run(components()["preprocessing/vert_binning"], attributes, [base])["output_rule"]
        attributes = {"input/input_base_ds/feature_selects": chosen}
        return runner.run(components()[self.component], attributes, [base, test, rule])
