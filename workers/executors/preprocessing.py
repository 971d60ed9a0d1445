"""Preparing columns for models: scaling, one-hot, WOE binning. All other columns of a table stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from workers.components.definition import Columns, components
from workers.components.files import Kept
from workers.components.run import FILLER, Runner
from workers.documents import Document, SFInitConfig, TaskConfig
from workers.errors import ConfigError
from workers.executors.base import NUMERIC, Catalogue, Session, Slots, check_each_party
from workers.executors.training import LABEL, Label, check_classes, check_label_column
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
from workers.problems import Problem
from workers.tables import column_types, read_columns, read_text, text_blocks

RULE = "rule"
KINDS = {"preprocessing": "sf.rule.preprocessing", "binning": "sf.rule.binning"}


@dataclass(slots=True)
class Prepared:
    params: Any
    columns: dict[str, list[str]]
    #: By the names that columns have for the component.
    values: dict[str, Any]
    rule: Kept | None = None


class PreprocessingExecutor(VerticalExecutor):
    """Base of the task types that replace columns of a table by others made of them."""

    devices: ClassVar[tuple[str, ...]] = ()
    preload = ("secretflow.component.core", "pyarrow.csv", "pyarrow.orc")
    component: ClassVar[str]
    kind: ClassVar[str] = KINDS["preprocessing"]
    #: A column of one value alone is an error.
    wants_variety: ClassVar[bool] = False
    #: What columns may be of; any where it is empty.
    types: ClassVar[frozenset[str]] = NUMERIC

    @classmethod
    def slots(cls, params: Any) -> Slots:
        return Slots(outputs={RULE: frozenset({cls.kind})})

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        path = f"algorithm_params.{cls.params_key}.columns"
        yield from check_party_columns(params.columns, task, cluster, catalogue, path, cls.types)
        yield from check_whole(task, cluster, RULE)

    def attributes(self, params: Any) -> dict[str, Any]:
        """The component's attributes: path to value."""
        return {}

    def label(self, prepared: Prepared) -> dict[str, list[str]]:
        """The label among the component's columns, where it wants one."""
        return {}

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params = self.parse_params(algorithm_params)
        mine = params.columns.get(self.session.party, [])
        if self.types and mine:
            name = self.session.source.name
            for column, values in zip(mine, read_columns(self.session.input_path, name, mine).T, strict=True):
                if self.wants_variety and values.min() == values.max():
                    raise ConfigError(f"column {column!r} of dataset {name} has one value in all rows; leave it out")
        return prepared_of(self.session, params, params.columns)

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        prepared, session = algorithm_params, self.session
        runner, names = Runner(session), own_names(prepared.columns)
        features = listed(names)
        label = self.label(prepared)
        table = runner.table(
            "rows",
            Columns(features=features, labels=label),
            private_table(session, prepared.values, "rows"),
            of_two=True,
        )
        [select] = [c["name"] for c in components()[self.component].tables[0]["columns"] if c["name"] != "label"]
        chosen = {f"input/input_ds/{select}": [name for found in features.values() for name in found]}
        chosen |= {"input/input_ds/label": [LABEL]} if label else {}
        session.progress(0.1)
        outputs = runner.run(components()[self.component], self.attributes(prepared.params) | chosen, [table])
        session.progress(0.8)
        made = keep_table(runner, outputs["output_ds"], prepared, names)
        runner.keep({RULE: outputs["output_rule"]}, task={"columns": prepared.columns})
        session.progress(1.0)
        return {"columns": made} | runner.reports(outputs)


def prepared_of(session: Session, params: Any, columns: dict[str, list[str]], rule: Kept | None = None) -> Prepared:
    """What of this party's table a component is to see."""
    name = session.source.name
    names = own_names(columns).get(session.party, {})
    known = column_types(session.input_path, name)
    if missing := [column for column in names if column not in known]:
        raise ConfigError(f"dataset {name} at {session.party} has no column {', '.join(missing)}")
    table = read_text(session.input_path, name, list(names)) if names else {}
    return Prepared(params, columns, {names[column]: values for column, values in table.items()}, rule)


def keep_table(
    runner: Runner, made: Any, prepared: Prepared, names: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Keep this party's table with what a component made of some columns in their place. Party to its new columns."""
    import secretflow as sf
    from pyarrow import orc

    session = runner.session
    mine = names.get(session.party, {})
    found: dict[str, Any] = {}
    for part in made.data_refs:
        if part.party == session.party:
            new = orc.read_table(runner.root / part.uri)
            ours = [name for name in new.column_names if name not in (LABEL, FILLER)]
            found = {_in_our_words(name, mine): new.column(name) for name in ours}
    if is_kept(session):
        others = [column for column in column_types(session.input_path, session.source.name) if column not in mine]
        if twice := sorted(set(others) & set(found)):
            raise ConfigError(f"the table of {session.party} has a column {', '.join(twice)} already; rename it")
        if others:
            keep_blocks(session, _side_by_side(session, others, found))
        else:
            keep_columns(session, found)
    told = sf.reveal([sf.PYU(party)(lambda said: said)(list(found)) for party in names])
    return dict(zip(names, told, strict=True))


def _side_by_side(session: Session, others: list[str], found: Mapping[str, Any]) -> Iterator[Any]:
    """Blocks of the table's other columns, as they are written, with what was made beside them."""
    import pyarrow as pa

    done = 0
    for block in text_blocks(session.input_path, session.source.name, others):
        made = [values.slice(done, block.num_rows).combine_chunks() for values in found.values()]
        yield pa.RecordBatch.from_arrays([*block.columns, *made], names=[*others, *found])
        done += block.num_rows


def _in_our_words(name: str, names: Mapping[str, str]) -> str:
    """A component's column by the name of the column that it was made of: ``alice_job_2`` is ``job_2``."""
    for column, own in names.items():
        if name == own:
            return column
    made_of = max((pair for pair in names.items() if name.startswith(f"{pair[1]}_")), key=lambda p: len(p[1]))
    return made_of[0] + name.removeprefix(made_of[1])


class ScaleParams(Document):
    """Parameters of scaling."""

    columns: PartyColumns = Field(description="For each party the columns to scale.")
    method: Literal["standardize", "normalize"] = Field(
        default="standardize",
        description="standardize: to mean 0 and deviation 1. normalize: to the range from 0 to 1.",
    )


class ScaleExecutor(PreprocessingExecutor):
    """Scales columns, each party its own: to mean 0 and deviation 1, or to the range from 0 to 1. What was done can be
    kept as ``further_outputs.rule`` and done to other rows by the task type apply_rule."""

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

    def attributes(self, params: ScaleParams) -> dict[str, Any]:
        operation = "STANDARDIZE" if params.method == "standardize" else "NORMALIZATION"
        return {"rules": f'{{"op": "{operation}"}}'}


#: SecretFlow refuses a column with as many different values.
MOST_VALUES = 100


class OneHotParams(Document):
    """Parameters of one-hot encoding."""

    columns: PartyColumns = Field(description="For each party the columns to encode.")
    drop: Literal["no_drop", "first", "mode"] = Field(
        default="no_drop", description="Leave out one of a column's new columns: the first, or that of the mode."
    )
    min_frequency: float = Field(
        default=0.0, ge=0, lt=1, description="Values of a smaller share of the rows get one column together."
    )


class OneHotExecutor(PreprocessingExecutor):
    """Replaces each column by columns of 0 and 1, one for each of its values: each party its own. The new columns are
    numbered in the order in which values first occur in the table, or by how often where drop is mode; values of too
    small a share have the last one together. What was done can be kept as ``further_outputs.rule`` and done to other
    rows by the task type apply_rule."""

    title = "One-hot encoding"
    params_key = "one_hot_params"
    Params = OneHotParams
    component = "preprocessing/onehot_encode"
    types = frozenset()
    example = {
        "task_type": "one_hot",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "outputs": {"alice": "encoded", "bob": "encoded"},
        "algorithm_params": {"one_hot_params": {"columns": {"bob": ["malignant"]}}},
    }

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        prepared, session = super().validate_params(algorithm_params), self.session
        for column in prepared.columns.get(session.party, []):
            values = prepared.values[own_names(prepared.columns)[session.party][column]]
            if (count := len(values.unique())) >= MOST_VALUES:
                raise ConfigError(
                    f"column {column!r} of dataset {session.source.name} has {count} different values; "
                    f"one-hot encoding takes fewer than {MOST_VALUES}"
                )
        return prepared

    def attributes(self, params: OneHotParams) -> dict[str, Any]:
        return {"drop": params.drop, "min_frequency": params.min_frequency, "report_rules": False}


class WOEParams(Document):
    """Parameters of WOE binning."""

    columns: PartyColumns = Field(description="For each party the columns to put into bins.")
    label: Label = Field(description="The yes or no by which a bin is weighed: 0 and 1.")
    bins: int = Field(default=10, ge=2, le=100, description="Into how many bins a column is put.")
    method: Literal["quantile", "chimerge"] = Field(
        default="quantile", description="quantile: bins of equally many rows. chimerge: bins that differ in the label."
    )


class WOEBinningExecutor(PreprocessingExecutor):
    """Puts columns into bins and replaces each value by its bin's weight of evidence. The label stays secret: counts of
    it are made under homomorphic encryption, and each party sees the weights of its own bins. What was done can be kept
    as ``further_outputs.rule`` and done to other rows by the task type apply_rule."""

    title = "WOE binning"
    params_key = "woe_params"
    Params = WOEParams
    component = "preprocessing/vert_woe_binning"
    kind = KINDS["binning"]
    wants_variety = True
    devices = ("heu",)
    example = {
        "task_type": "woe_binning",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "outputs": {"alice": "binned", "bob": "binned"},
        "further_outputs": {"rule": {"alice": "woe_rule", "bob": "woe_rule"}},
        "algorithm_params": {
            "woe_params": {
                "columns": {"alice": ["mean_radius"], "bob": ["worst_area"]},
                "label": {"party": "bob", "column": "malignant"},
                "bins": 4,
            }
        },
    }

    @classmethod
    def check(
        cls, params: WOEParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        yield from super().check(params, task, cluster, catalogue)
        base = f"algorithm_params.{cls.params_key}"
        yield from check_label_column(params.label, params.columns, task, cluster, catalogue, base)

    def attributes(self, params: WOEParams) -> dict[str, Any]:
        return {
            "secure_device_type": "heu",
            "binning_method": params.method,
            "bin_num": params.bins,
            "positive_label": "1",
            "report_rules": False,
        }

    def label(self, prepared: Prepared) -> dict[str, list[str]]:
        return {prepared.params.label.party: [LABEL]}

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        prepared = super().validate_params(algorithm_params)
        label, session = prepared.params.label, self.session
        if label.party == session.party:
            import numpy as np

            values = read_columns(session.input_path, session.source.name, [label.column])[:, 0]
            check_classes(np.unique(values), label.column, label.party, "bins are weighed by those two")
            prepared.values[LABEL] = values.astype("int64")
        return prepared


class ApplyParams(Document):
    """What is applied is said by ``further_sources.rule``."""


class ApplyRuleExecutor(VerticalExecutor):
    """Does to other rows what an earlier task did: scales, encodes or bins them as the rule says that it kept
    (``further_sources.rule``). Columns have the names they had there; all others stay as they are."""

    title = "Apply a rule"
    params_key = "apply_rule_params"
    Params = ApplyParams
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
    def slots(cls, params: Any) -> Slots:
        return Slots(sources={RULE: frozenset(KINDS.values())})

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        named = task.further_sources.get(RULE, {})
        yield from check_each_party(named, cluster, f"further_sources.{RULE}", "name {party}'s part of the rule")

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params, session = self.parse_params(algorithm_params), self.session
        source = session.sources[RULE]
        rule = Kept(source.path, source.name, session.party)
        task = rule.record.get("task")
        if not isinstance(task, dict):
            raise ConfigError(
                f"{source.name} at {session.party} was kept by a component; apply it with preprocessing/substitution"
            )
        if missing := set(task["columns"]) - set(session.parties):
            raise ConfigError(f"{source.name} is about columns of {', '.join(sorted(missing))}, who is not here")
        return prepared_of(session, params, task["columns"], rule)

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        prepared, session = algorithm_params, self.session
        runner, names = Runner(session), own_names(prepared.columns)
        rule = runner.model(RULE, prepared.rule)
        own = private_table(session, prepared.values, "rows")
        table = runner.table("rows", Columns(features=listed(names)), own, of_two=True)
        session.progress(0.1)
        outputs = runner.run(components()["preprocessing/substitution"], {}, [table, rule])
        made = keep_table(runner, outputs["output_ds"], prepared, names)
        session.progress(1.0)
        return {"columns": made}
