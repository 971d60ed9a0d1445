"""WOE binning: replaces numbers by weights of evidence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from workers.components.run import Runner
from workers.computing.telling import told_by
from workers.contract.catalogue import Catalogue
from workers.contract.documents import Document, SFInitConfig, TaskConfig
from workers.contract.problems import Problem
from workers.executors.bins import counts, cut_points
from workers.executors.preprocessing import KINDS, Prepared, PreprocessingExecutor
from workers.executors.training import LABEL, Label, check_classes, check_label_column
from workers.executors.vertical import PartyColumns, own_names
from workers.host.tables import read_columns


class WOEParams(Document):
    """Parameters of WOE binning."""

    columns: PartyColumns = Field(description="For each party the columns to put into bins.")
    label: Label = Field(description="The label that the bins are weighed by: 0 and 1.")
    bins: int = Field(
        default=10,
        ge=2,
        le=100,
        description="Number of bins of a column. chimerge may make more, if neighbouring bins differ clearly.",
    )
    method: Literal["quantile", "chimerge"] = Field(
        default="quantile",
        description="quantile: bins of equally many rows; a value that would fill more than one has its own. chimerge: "
        "bins that differ in the label.",
    )


class WOEBinningExecutor(PreprocessingExecutor):
    """Puts columns into bins and replaces each value by its bin's weight of evidence: ln of the bin's share of the
    label's ones over its share of the zeros. If a bin lacks one of them, 0.5 is added to both counts. The label stays
    secret: counts of it are made under homomorphic encryption, and each party sees the weights of its own bins. All
    parties learn each column's information value, one number, and the label's party also those of its bins. What was
    done can be kept as ``further_outputs.rule`` and done to other rows by the task type apply_rule."""

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

    @classmethod
    def lines_up(cls, params: WOEParams, party: str) -> bool:
        return party in params.columns or party == params.label.party

    def attributes(self, params: WOEParams) -> dict[str, Any]:
        return {
            "secure_device_type": "heu",
            "binning_method": params.method,
            "bin_num": params.bins,
            "chimerge_target_bins": params.bins,
            "positive_label": "1",
            "report_rules": False,
        }

    def label(self, prepared: Prepared) -> dict[str, list[str]]:
        return {prepared.params.label.party: [LABEL]}

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        prepared = super().validate_params(algorithm_params)
        label, context = prepared.params.label, self.context
        names = own_names(prepared.columns).get(context.party, {})
        # As numbers, since the component cannot put yes and no into bins
        if names:
            table = read_columns(context.input_path, context.source.name, list(names))
            prepared.values = dict(zip(names.values(), table.T, strict=True))
        if label.party == context.party:
            import numpy as np

            values = read_columns(context.input_path, context.source.name, [label.column])[:, 0]
            check_classes(np.unique(values), label.column, label.party, "bins are weighed by those two")
            prepared.values[LABEL] = values.astype("int64")
        return prepared

    def groups(self, prepared: Prepared) -> Iterable[int]:
        params = prepared.params
        if params.method == "chimerge":
            return [1]  # the label decides which rows go together, and any number of them may
        own = own_names(prepared.columns).get(self.context.party, {}).values()
        columns = [prepared.values[name] for name in own]
        return (size for values in columns for size in counts(values, cut_points(values, params.bins, "quantile")))

    def run(self, runner: Runner, attributes: Mapping[str, Any], table: Any) -> dict[str, Any]:
        with _our_bins():
            return super().run(runner, attributes, table)

    def told(self, prepared: Prepared, runner: Runner, outputs: Mapping[str, Any]) -> dict[str, Any]:
        owner: str = prepared.params.label.party
        here: dict[str, Any] = {}
        if self.context.party == owner or self.context.party in prepared.columns:
            here = dict(_rule_here(runner, outputs["output_rule"]).items())
        sizes = {entry["name"]: len(entry["split_points"]) + 1 for entry in here.get("variables", [])}
        bins = [entry for told in told_by(prepared.columns, sizes).values() for entry in told.items()]
        values = told_by([owner], _information(here["feature_iv_info"], bins) if self.context.party == owner else {})
        names = own_names(prepared.columns)
        shown = {f"{p}.{column}": values[owner][own] for p, mine in names.items() for column, own in mine.items()}
        return {"information_values": shown}


def _information(entries: list[Any], bins: list[tuple[str, int]]) -> dict[str, float]:
    """Return each column's information value. ``bins``: columns, each with the number of its bins.

    SecretFlow lists those of all bins in the order of the columns, but after chimerge assigns the wrong ones to a
    column.
    """
    parts = [float(value) for entry in entries for value in entry["ivs"]]
    sizes, found = dict(bins), {}
    for entry in entries:
        size = sizes[entry["name"]]
        found[entry["name"]] = math.fsum(parts[:size])
        parts = parts[size:]
    return found


def _rule_here(runner: Runner, rule: Any) -> Any:
    """Return this party's part of a rule, as SecretFlow keeps it."""
    from secretflow.utils import secure_pickle

    [part] = [part for part in rule.data_refs if part.party == runner.context.party]
    with (runner.root / part.uri).open("rb") as file:
        return secure_pickle.load(file)


@contextmanager
def _our_bins() -> Iterator[None]:
    """Have SecretFlow cut columns by ``cut_points``: pandas' quantiles put a column that is mostly one number into a
    single bin, and the component then leaves it as it is."""
    from secretflow.preprocessing.binning import vert_woe_binning_pyu as worker

    pandas = worker.pd
    worker.pd = _Cutting()
    try:
        yield
    finally:
        worker.pd = pandas


class _Cutting:
    """The part of pandas that the component uses."""

    @staticmethod
    def qcut(column: Any, bins: int, **options: Any) -> tuple[Any, Any]:
        """Return the bin of each number, and the ends of all bins."""
        import numpy as np

        numbers = np.asarray(column, float)
        cuts = cut_points(numbers, bins, "quantile")
        return np.searchsorted(cuts, numbers, side="left"), np.array([numbers.min(), *cuts, numbers.max()])
