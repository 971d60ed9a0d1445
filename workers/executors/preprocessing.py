"""Preparing columns for models: the base of such task types, and scaling. All other columns stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import Field

from workers.components.definition import Columns, components
from workers.components.run import FILLER, Runner
from workers.computing.context import Context
from workers.computing.minimum import check_own_groups
from workers.computing.telling import told_by
from workers.contract.catalogue import NUMERIC, Catalogue
from workers.contract.documents import Document, SFInitConfig, TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import Problem
from workers.contract.results import ColumnsResult
from workers.contract.roles import Roles
from workers.executors.standard import check_standard
from workers.executors.training import LABEL
from workers.executors.vertical import (
    PartyColumns,
    VerticalExecutor,
    check_party_columns,
    check_whole,
    is_kept,
    keep_blocks,
    keep_columns,
    listed,
    own_names,
    private_table,
)
from workers.host.tables import column_types, read_columns, read_text, text_blocks

RULE = "rule"
KINDS = {"preprocessing": "sf.rule.preprocessing", "binning": "sf.rule.binning"}


@dataclass(slots=True)
class Prepared:
    params: Any
    columns: dict[str, list[str]]
    #: Columns by the names that the component has for them.
    values: dict[str, Any]
    #: The part of the rule that only this party keeps, JSON.
    own: dict[str, Any] = field(default_factory=dict)


class PreprocessingExecutor(VerticalExecutor):
    """Base of the task types that replace columns of a table by new ones."""

    devices: ClassVar[tuple[str, ...]] = ()
    preload = ("secretflow.component.core", "pyarrow.csv", "pyarrow.orc")
    component: ClassVar[str]
    Result = ColumnsResult
    kind: ClassVar[str] = KINDS["preprocessing"]
    #: Whether a column with a single value is an error.
    wants_variety: ClassVar[bool] = False
    #: Allowed types of the columns; empty for any.
    types: ClassVar[frozenset[str]] = NUMERIC

    @classmethod
    def roles(cls, params: Any) -> Roles:
        return Roles(outputs={RULE: frozenset({cls.kind})})

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        path = f"algorithm_params.{cls.params_key}.columns"
        yield from check_party_columns(params.columns, task, cluster, catalogue, path, cls.types)
        yield from check_whole(task, cluster, RULE)

    @classmethod
    def lines_up(cls, params: Any, party: str) -> bool:
        return party in params.columns

    def attributes(self, params: Any) -> dict[str, Any]:
        """Return the component's attributes: path to value."""
        return {}

    def label(self, prepared: Prepared) -> dict[str, list[str]]:
        """Return the label among the component's columns, where it wants one."""
        return {}

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params = self.parse_params(algorithm_params)
        mine = params.columns.get(self.context.party, [])
        if self.types and mine:
            name = self.context.source.name
            for column, values in zip(mine, read_columns(self.context.input_path, name, mine).T, strict=True):
                if self.wants_variety and values.min() == values.max():
                    raise ConfigError("column {!r} of dataset {} has one value in all rows; leave it out", column, name)
                self.check_values(params, column, values)
        return prepared_of(self.context, params, params.columns)

    def check_values(self, params: Any, column: str, values: Any) -> None:
        """Raise ConfigError if the component would compute wrongly with the numbers of a column (rows,)."""

    @staticmethod
    def names(columns: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
        """Return, for each party, the own names of its columns, which the component uses."""
        return own_names(columns)

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        prepared, context = algorithm_params, self.context
        if (sizes := self.groups(prepared)) is not None:
            check_own_groups(context, sizes)
        runner, names = Runner(context), self.names(prepared.columns)
        features = listed(names)
        label = self.label(prepared)
        table = runner.table(
            "rows",
            Columns(features=features, labels=label),
            private_table(context, prepared.values, "rows"),
            of_two=True,
        )
        [select] = [c["name"] for c in components()[self.component].tables[0]["columns"] if c["name"] != "label"]
        chosen = {f"input/input_ds/{select}": [name for found in features.values() for name in found]}
        chosen |= {"input/input_ds/label": [LABEL]} if label else {}
        context.progress(0.1)
        outputs = self.run(runner, self.attributes(prepared.params) | chosen, table)
        context.progress(0.8)
        found = self.finished(prepared, new_columns(runner, outputs["output_ds"], names))
        made = keep_table(context, found, names)
        runner.keep({RULE: outputs["output_rule"]}, own=prepared.own, task={"columns": prepared.columns, **self.task})
        more = self.told(prepared, runner, outputs)
        context.progress(1.0)
        return {"columns": made} | more | runner.reports(outputs)

    def groups(self, prepared: Prepared) -> Iterable[int] | None:
        """Return the sizes of this party's groups of rows of which a party learns figures; None if there are none.
        They are made only where a policy has a minimum."""
        return None

    #: Further facts that ``apply_rule`` needs, besides the columns.
    task: ClassVar[Mapping[str, Any]] = {}

    def run(self, runner: Runner, attributes: Mapping[str, Any], table: Any) -> dict[str, Any]:
        """Run the component. Returns its outputs by name, as DistData."""
        return runner.run(components()[self.component], attributes, [table])

    def finished(self, prepared: Prepared, found: dict[str, Any]) -> dict[str, Any]:
        """Return this party's new columns by name, as they are kept. ``found``: the columns as the component made
        them."""
        return found

    def told(self, prepared: Prepared, runner: Runner, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return what all parties learn besides the columns, for the result."""
        return {}


def prepared_of(context: Context, params: Any, columns: dict[str, list[str]]) -> Prepared:
    """Return the columns of this party's table for a component: as they are written, but yes and no as 1 and 0."""
    import pyarrow.compute as pc

    name = context.source.name
    names = own_names(columns).get(context.party, {})
    check_columns_there(context, list(names))
    table = read_text(context.input_path, name, list(names)) if names else {}
    for column, kind in column_types(context.input_path, name).items():
        if column in table and kind == "bool":
            for word, digit in (("true", "1"), ("false", "0")):
                table[column] = pc.if_else(pc.equal(pc.utf8_lower(table[column]), word), digit, table[column])
    return Prepared(params, columns, {names[column]: values for column, values in table.items()})


def check_columns_there(context: Context, columns: list[str]) -> None:
    """Raise ConfigError if this party's table lacks one of the columns."""
    known = column_types(context.input_path, context.source.name)
    if missing := [column for column in columns if column not in known]:
        raise ConfigError("dataset {} at {} has no column {}", context.source.name, context.party, missing)


def new_columns(runner: Runner, made: Any, names: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the columns that a component made of this party's columns, by name. ``names``: the names that it uses."""
    from pyarrow import orc

    mine = names.get(runner.context.party, {})
    for part in made.data_refs:
        if part.party == runner.context.party:
            new = orc.read_table(runner.root / part.uri)
            ours = [name for name in new.column_names if name not in (LABEL, FILLER)]
            return {_in_our_words(name, mine): new.column(name) for name in ours}
    return {}


def keep_table(
    context: Context, found: Mapping[str, Any], names: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Keep this party's table with new columns in place of some. Returns each party's new columns."""
    mine = names.get(context.party, {})
    if is_kept(context):
        others = [column for column in column_types(context.input_path, context.source.name) if column not in mine]
        if twice := sorted(set(others) & set(found)):
            raise ConfigError("the table of {} has a column {} already; rename it", context.party, twice)
        if others:
            keep_blocks(context, _side_by_side(context, others, found))
        else:
            keep_columns(context, found)
    return told_by(names, list(found))


def _side_by_side(context: Context, others: list[str], found: Mapping[str, Any]) -> Iterator[Any]:
    """Yield blocks of the table's other columns, as they are written, with the new columns beside them."""
    import pyarrow as pa

    done = 0
    for block in text_blocks(context.input_path, context.source.name, others):
        made = [values.slice(done, block.num_rows).combine_chunks() for values in found.values()]
        yield pa.RecordBatch.from_arrays([*block.columns, *made], names=[*others, *found])
        done += block.num_rows


def _in_our_words(name: str, names: Mapping[str, str]) -> str:
    """Return a new column's name, made of the original column's: if ``p0c1`` is ``job``, ``p0c1_2`` becomes
    ``job_2``."""
    columns = {own: column for column, own in names.items()}
    if name in columns:
        return columns[name]
    own, _, number = name.rpartition("_")
    return f"{columns[own]}_{number}"


class ScaleParams(Document):
    """Parameters of scaling."""

    columns: PartyColumns = Field(description="For each party the columns to scale.")
    method: Literal["standardize", "normalize"] = Field(
        default="standardize",
        description="standardize: to mean 0 and deviation 1. normalize: to the range from 0 to 1.",
    )


class ScaleExecutor(PreprocessingExecutor):
    """Scales columns, each party its own: to mean 0 and deviation 1, or to the range from 0 to 1. What was done can be
    kept as ``further_outputs.rule`` and done to other rows by the task type apply_rule. Numbers of which float64 has no
    exact mean or deviation, such as 1e200 or large ones that hardly differ, are refused with standardize."""

    title = "Scaling"
    params_key = "scale_params"
    Params = ScaleParams
    component = "preprocessing/feature_calculate"
    example = {
        "task_type": "scale",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "outputs": {"alice": "scaled", "bob": "scaled"},
        "algorithm_params": {"scale_params": {"columns": {"alice": ["mean_radius"], "bob": ["worst_area"]}}},
    }

    def check_values(self, params: ScaleParams, column: str, values: Any) -> None:
        if params.method == "standardize":
            check_standard(values, column, self.context.source.name)

    def attributes(self, params: ScaleParams) -> dict[str, Any]:
        operation = "STANDARDIZE" if params.method == "standardize" else "NORMALIZATION"
        return {"rules": f'{{"op": "{operation}"}}'}
