"""Applies to a table what an earlier task did to the columns of another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.components.definition import Columns, components
from workers.components.files import Kept
from workers.components.run import Runner
from workers.computing.cells import read_cells, read_numbers
from workers.computing.telling import told_by
from workers.contract.catalogue import Catalogue
from workers.contract.checks import check_each_party
from workers.contract.documents import Document, SFInitConfig, TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import Problem
from workers.contract.results import ColumnsResult
from workers.contract.roles import Roles
from workers.executors.one_hot import ONE_HOT, UNKNOWN, VALUES, as_zero_and_one, coded, coded_names
from workers.executors.preprocessing import (
    KINDS,
    RULE,
    Prepared,
    PreprocessingExecutor,
    check_columns_there,
    keep_table,
    new_columns,
    prepared_of,
)
from workers.executors.vertical import VerticalExecutor, listed, own_names, private_table


class ApplyParams(Document):
    """Applying a rule has no parameters: ``further_sources.rule`` names the rule."""


@dataclass(slots=True)
class Applied(Prepared):
    rule: Kept | None = None
    #: By column: in how many of this party's rows the rule does not cover the value.
    unlike: dict[str, int] = field(default_factory=dict)
    #: By column that is binned: whether each cell is empty, (rows,).
    empty: dict[str, Any] = field(default_factory=dict)


class ApplyRuleExecutor(VerticalExecutor):
    """Does to other rows what an earlier task did: scales, encodes or bins them as the rule says that it kept
    (``further_sources.rule``). Columns have the names they had there; all others stay as they are. A value that a
    one-hot encoding does not know has 0 in all new columns, and an empty cell gets 0 as its weight of evidence;
    warnings tell in how many rows of each column. Numbers beyond those of the rule's own rows are in the first or last
    bin."""

    title = "Apply a rule"
    params_key = "apply_rule_params"
    Params = ApplyParams
    Result = ColumnsResult
    devices = ()
    preload = PreprocessingExecutor.preload
    example = {
        "task_type": "apply_rule",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "further_sources": {"rule": {"alice": "woe_rule", "bob": "woe_rule"}},
        "outputs": {"alice": "binned_too", "bob": "binned_too"},
        "algorithm_params": {"apply_rule_params": {}},
    }

    @classmethod
    def roles(cls, params: Any) -> Roles:
        return Roles(sources={RULE: frozenset(KINDS.values())})

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        named = task.further_sources.get(RULE, {})
        yield from check_each_party(named, cluster, f"further_sources.{RULE}", "name {party}'s part of the rule")

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Applied:
        import numpy as np
        import pyarrow.compute as pc

        params, context = self.parse_params(algorithm_params), self.context
        source = context.sources[RULE]
        rule = Kept(source.path, source.name, context.party)
        task = rule.record.get("task")
        if not isinstance(task, dict):
            raise ConfigError(
                "{} at {} was kept by a component; apply it with preprocessing/substitution", source.name, context.party
            )
        if missing := set(task["columns"]) - set(context.parties):
            raise ConfigError("{} is about columns of {}, who is not here", source.name, sorted(missing))
        self._one_hot, self._bins = task.get("kind") == ONE_HOT, source.kind == KINDS["binning"]
        columns = task["columns"]
        mine = columns.get(context.party, [])
        check_columns_there(context, mine)
        prepared = Applied(params, columns, {}, rule=rule)
        names = self._names(columns).get(context.party, {})
        if self._one_hot:
            for column, cells in read_cells(context.input_path, context.source.name, mine).items():
                values = prepared.values[names[column]] = coded(cells, rule.own[VALUES][column])
                prepared.unlike[column] = int(pc.sum(pc.equal(values, UNKNOWN)).as_py() or 0)
        elif self._bins:
            for column, cells in read_numbers(context.input_path, context.source.name, mine).items():
                prepared.values[names[column]] = np.where(cells.empty, 0.0, cells.numbers)
                prepared.unlike[column] = int(cells.empty.sum())
                prepared.empty[column] = cells.empty
        else:
            prepared.values = prepared_of(context, params, columns).values
        return prepared

    def _names(self, columns: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
        return coded_names(columns) if self._one_hot else own_names(columns)

    def execute_algorithm(self, algorithm_params: Applied) -> dict[str, Any]:
        import pyarrow as pa
        import pyarrow.compute as pc

        prepared, context = algorithm_params, self.context
        runner, names = Runner(context), self._names(prepared.columns)
        rule = runner.model(RULE, prepared.rule)
        own = private_table(context, prepared.values, "rows")
        table = runner.table("rows", Columns(features=listed(names)), own, of_two=True)
        context.progress(0.1)
        outputs = runner.run(components()["preprocessing/substitution"], {}, [table, rule])
        found = new_columns(runner, outputs["output_ds"], names)
        if self._one_hot:
            found = as_zero_and_one(found)
        for column, empty in prepared.empty.items():
            found[column] = pc.if_else(pa.array(empty), 0.0, found[column])
        made = keep_table(context, found, names)
        what = (
            "have a value that the rule does not know: they have 0 in all its new columns"
            if self._one_hot
            else "have no value in it: their weight of evidence is 0"
        )
        for party, counts in told_by(names, prepared.unlike).items():
            for column, count in counts.items():
                if count:
                    context.warnings.append(f"{party}.{column}: {count} of the rows {what}")
        context.progress(1.0)
        return {"columns": made}
