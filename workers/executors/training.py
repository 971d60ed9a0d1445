"""Task types that train a model: SecretFlow's components on private copies of the parties' columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from workers.components.definition import Columns, components, flattened
from workers.components.run import FILLER, Runner
from workers.components.shares import spu_settings, with_spu
from workers.components.wrong import check_attributes
from workers.computing.context import Context
from workers.computing.telling import told_by
from workers.contract.catalogue import NUMERIC, Catalogue
from workers.contract.checks import check_column, not_a_party
from workers.contract.documents import ColumnName, Document, PartyName, SFInitConfig, TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import Problem
from workers.contract.results import ModelResult
from workers.contract.roles import Roles
from workers.contract.wording import Text
from workers.executors.doubts import warn_of_model
from workers.executors.metrics import measured
from workers.executors.precision import told_precision
from workers.executors.standard import check_standard
from workers.executors.vertical import (
    PartyColumns,
    VerticalExecutor,
    check_outputs,
    check_party_columns,
    check_range,
    check_whole,
    greatest,
    keep_columns,
    listed,
    own_names,
    private_table,
)
from workers.host.tables import read_columns

#: Role of a model that is kept or read.
MODEL = "model"
#: Name of the label beside the features; no feature's own name begins like that.
LABEL = "_label"
#: Key under which the label's party keeps the label's scaling.
LABEL_SCALING = "label_scaling"
#: By kind of model: the component that predicts with it.
PREDICTORS = {
    "sf.model.ss_sgd": "ml.predict/ss_sgd_predict",
    "sf.model.ss_glm": "ml.predict/ss_glm_predict",
    "sf.model.ss_xgb": "ml.predict/ss_xgb_predict",
    "sf.model.sgb": "ml.predict/sgb_predict",
}


#: Models for which the SPU computes with the features' values, and not only with their order.
LINEAR = ("sf.model.ss_sgd", "sf.model.ss_glm")


class Label(Document):
    party: PartyName = Field(description="Party that has the label.")
    column: ColumnName = Field(description="Column of the label; 0 and 1 for yes or no.")


class TrainingData(Document):
    """The data that every model is trained on."""

    features: PartyColumns = Field(description="For each party its feature columns.")
    label: Label = Field(description="The column that the model learns to predict.")
    standardize: bool = Field(
        default=True,
        description="Each party scales its own columns to mean 0 and deviation 1 first, and again for predictions; so "
        "is the label where it is a number that the model approaches step by step.",
    )


@dataclass(slots=True)
class Prepared:
    params: Any
    #: Values by the column's own name, float64, (rows,): features first, then the label if it is here.
    values: dict[str, Any]
    #: Mean and deviation by a feature's own name, if columns are scaled.
    scaling: dict[str, tuple[float, float]]
    rows: int
    label: Any = None
    #: Mean and deviation of the label, if the model learns it scaled; only at the label's party.
    label_scaling: tuple[float, float] | None = None


class TrainingExecutor(VerticalExecutor):
    """Base of the task types that train a model. All parties keep the model, each its own part, if
    ``further_outputs.model`` names it. Predictions for the training rows stay with the label's party."""

    preload = ("secretflow.component.core", "sklearn.metrics", "pyarrow.csv")
    #: SecretFlow's component that trains.
    component: ClassVar[str]
    Result = ModelResult
    #: The component's name for the model.
    kind: ClassVar[str]

    @classmethod
    def is_classification(cls, params: Any) -> bool:
        """Return whether the label is 0 and 1."""
        raise NotImplementedError

    @classmethod
    def label_rule(cls, params: Any) -> tuple[float, bool, str] | None:
        """Return the rule for a label that is a number: what it has to be above, whether that value itself is allowed,
        and what requires it."""
        return None

    @classmethod
    def scales_label(cls, params: Any) -> bool:
        """Return whether the model learns the label with mean 0 and deviation 1.

        It then begins at the mean, not at 0, and no number is too large for the SPU.
        """
        return False

    @classmethod
    def attributes(cls, params: Any, rows: int) -> dict[str, Any]:
        """Return the component's attributes: path to value."""
        return dict(flattened(components()[cls.component].attributes, params.training_params))

    @classmethod
    def roles(cls, params: Any) -> Roles:
        return Roles(outputs={MODEL: frozenset({cls.kind})})

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        base = f"algorithm_params.{cls.params_key}"
        yield from check_party_columns(params.features, task, cluster, catalogue, f"{base}.features")
        yield from check_label(params.label, params.features, task, cluster, catalogue, base)
        yield from check_outputs(task, params.label.party, cluster, "the predictions")
        yield from check_whole(task, cluster, MODEL)
        if found := check_attributes(cls.component, params.training_params):
            yield Problem(f"{base}.training_params.{found[0]}", *found[1:])

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        import numpy as np

        params = self.parse_params(algorithm_params)
        context, party = self.context, self.context.party
        columns = params.features.get(party, [])
        wanted = columns + ([params.label.column] if params.label.party == party else [])
        table = read_columns(context.input_path, context.source.name, wanted)
        values, scaling, names = {}, {}, feature_names(params.features, params.label.party).get(party, {})
        for index, column in enumerate(columns):
            found, name = table[:, index], names[column]
            if params.standardize:
                check_standard(found, column, context.source.name)
                mean, deviation = scaling[name] = _scaling(found)
                found = (found - mean) / deviation
            values[name] = found
        values |= fillers(names, len(table))
        self._check_samples(params, columns, table)
        prepared = Prepared(params, values, scaling, len(table))
        if len(wanted) > len(columns):
            prepared.label = values[LABEL] = table[:, -1]
            if self.scales_label(params):
                check_standard(prepared.label, params.label.column, context.source.name)
                mean, deviation = prepared.label_scaling = _scaling(prepared.label)
                values[LABEL] = (prepared.label - mean) / deviation
            if self.is_classification(params):
                check_classes(np.unique(prepared.label), params.label.column, party)
            else:
                if prepared.label.min() == prepared.label.max():
                    raise ConfigError(
                        "label {!r} at {} has the same value in all rows; there is nothing to learn: choose another "
                        "column",
                        params.label.column,
                        party,
                    )
                if rule := self.label_rule(params):
                    _check_label(prepared.label, params.label, *rule)
        return prepared

    def _check_samples(self, params: Any, columns: list[str], table: Any) -> None:
        """Raise ConfigError if there are too few rows for SecretFlow; warn of features with a single value.

        ``table``: this party's features and label, (rows, columns), the features first.
        """
        name, party = self.context.source.name, self.context.party
        # Counts the column of zeros of a label's party without features
        features = sum(map(len, feature_names(params.features, params.label.party).values()))
        if self.kind in LINEAR and len(table) <= features:
            raise ConfigError(
                "dataset {} has {} rows for {} features of all parties; a model of so many features takes {} rows or "
                "more, as fewer could reveal the label",
                name,
                len(table),
                features,
                features + 1,
            )
        for index, column in enumerate(columns):
            if table[:, index].min() == table[:, index].max():
                self.context.warnings.append(
                    f"Feature {column!r} of {party} has the same value in all rows, so it adds nothing to the model. "
                    "Leave it out."
                )

    def adapted(self, algorithm_params: Prepared, devices: Mapping[str, Any]) -> Mapping[str, Any]:
        return with_spu(devices, self._spu_settings(algorithm_params.params))

    @classmethod
    def shapes_devices(cls, params: Any) -> Any:
        return cls._spu_settings(params) or None

    @classmethod
    def _spu_settings(cls, params: Any) -> dict[str, Any]:
        return spu_settings(components()[cls.component], getattr(params, "training_params", None), None)

    def _check_steps(self, prepared: Prepared) -> None:
        """Raise ConfigError if the sums of a step may be too large for the SPU. A gradient sums a feature times the
        error over a step's rows; trees sum the errors of all rows.
        """
        context, params = self.context, prepared.params
        owner, is_class = params.label.party, self.is_classification(params)
        times = int(self.attributes(params, prepared.rows).get("batch_size", prepared.rows))
        if prepared.label is not None:
            check_range(context, prepared.values[LABEL], params.label.column, times=times)
        if self.kind not in LINEAR:
            return
        # At the start the error of a number is the number itself: its party tells the next power of two
        mine = 2.0 ** math.ceil(math.log2(max(greatest(prepared.values.get(LABEL, [])), 1.0)))
        error = 1.0 if is_class else told_by([owner], mine)[owner]
        for column, own in feature_names(params.features, owner).get(context.party, {}).items():
            check_range(context, prepared.values[own], column, times=math.ceil(times * error))

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        prepared, params, context = algorithm_params, algorithm_params.params, self.context
        runner, owner = Runner(context), params.label.party
        names = feature_names(params.features, owner)
        check_features(context, self.kind, prepared.values, names)
        if "spu" in context.documents:
            self._check_steps(prepared)
        features = listed(names)
        columns = Columns(features=features, labels={owner: [LABEL]})
        table = runner.table("rows", columns, private_table(context, prepared.values, "rows"))
        chosen = {
            "input/input_ds/feature_selects": [c for found in features.values() for c in found],
            "input/input_ds/label": [LABEL],
        }
        context.progress(0.0)
        trained = runner.run(
            components()[self.component],
            self.attributes(params, prepared.rows) | chosen,
            [table],
            lambda done: context.progress(0.8 * done),
        )
        model = trained["output_model"]
        task = {
            "features": params.features,
            "label_party": owner,
            "is_classification": self.is_classification(params),
            "scales_label": self.scales_label(params),
        }
        record = runner.record  # the prediction makes a new one
        predictions = predicted(runner, model, table, owner)
        if prepared.label_scaling is not None:
            mean, deviation = prepared.label_scaling
            predictions = predictions * deviation + mean
        found = measured(context, owner, prepared.label, predictions, self.is_classification(params))
        warn_of_model(context, owner, prepared.label, predictions, self.is_classification(params))
        keep_predictions(context, owner, predictions)
        own = {"scaling": prepared.scaling, LABEL_SCALING: prepared.label_scaling}
        runner.keep({MODEL: model}, own=own, task=task, record=record)
        context.progress(1.0)
        return {
            "rows": prepared.rows,
            "features": {p: len(named) for p, named in params.features.items()},
            **found,
        } | runner.reports(trained)


def batch_of(rows: int) -> int:
    """Return the default number of rows per step: small enough for a usable model of few rows."""
    return min(max(rows // 20, 16), 1024)


def _scaling(values: Any) -> tuple[float, float]:
    """Return mean and deviation of a column (rows,); 1 for the deviation of one value alone."""
    return float(values.mean()), float(values.std()) or 1.0


def check_features(
    context: Context, kind: str, values: Mapping[str, Any], names: Mapping[str, Mapping[str, str]]
) -> None:
    """Raise ConfigError if the SPU would compute with features that are too large for it. Warn in the result of
    features that are too small for it. Every party calls it with its own ``values``.
    """
    if kind not in LINEAR:
        return
    for column, own in names.get(context.party, {}).items():
        check_range(context, values[own], column)
    step = 2.0 ** -context.documents["spu"].runtime_config.fraction_bits
    features = [(p, c, own) for p, mine in names.items() for c, own in mine.items() if own != FILLER]
    told_precision(context, [(p, f"{p}.{c}", values.get(own), step) for p, c, own in features])


def feature_names(features: Mapping[str, list[str]], owner: str | None) -> dict[str, dict[str, str]]:
    """Return, for each party, its features' own names. ``owner`` of the label gets one of zeros if it has none:
    SecretFlow's models need a part of each party, and learn nothing from it."""
    names = own_names(features)
    return names if owner is None or names.get(owner) else {**names, owner: {FILLER: FILLER}}


def fillers(names: Mapping[str, str], rows: int) -> dict[str, Any]:
    """Return the values of that feature of zeros, if it is among a party's ``names``."""
    import numpy as np

    return {FILLER: np.zeros(rows)} if FILLER in names else {}


def check_label(
    label: Label,
    features: Mapping[str, list[str]],
    task: TaskConfig,
    cluster: SFInitConfig,
    catalogue: Catalogue,
    base: str,
) -> Iterator[Problem]:
    """Check that the label is a column of its party and not a feature, and that every party has columns."""
    yield from check_label_column(label, features, task, cluster, catalogue, base)
    for party in cluster.parties:
        if party not in features and party != label.party:
            yield Problem(f"{base}.features.{party}", "is required", f"{party} brings neither features nor the label")


def check_label_column(
    label: Label,
    features: Mapping[str, list[str]],
    task: TaskConfig,
    cluster: SFInitConfig,
    catalogue: Catalogue,
    base: str,
) -> Iterator[Problem]:
    """Check that the label is a column of its party, and not among the others."""
    if label.party not in cluster.parties:
        yield not_a_party(f"{base}.label.party", cluster.parties)
    else:
        yield from check_column(catalogue, task, label.party, label.column, f"{base}.label.column", NUMERIC)
    if label.column in features.get(label.party, []):
        yield Problem(f"{base}.label.column", "is also a feature", "remove it from the features")


def check_classes(found: Any, column: str, party: str, remedy: str = "classification needs those two") -> None:
    """Raise ConfigError unless a label's distinct values are 0 and 1, both."""
    import numpy as np

    if not np.isin(found, (0, 1)).all():
        raise ConfigError("label {!r} at {} has values other than 0 and 1; {}", column, party, Text(remedy))
    if len(found) < 2:
        raise ConfigError("label {!r} at {} has one class only; needs 0 and 1", column, party)


def _check_label(values: Any, label: Label, least: float, or_equal: bool, reason: str) -> None:
    if (values < least).any() or (not or_equal and (values == least).any()):
        bound = f"{'' if or_equal else 'above '}{least:g}{' or more' if or_equal else ''}"
        raise ConfigError(
            "label {!r} at {} has values too small for {}: use {}", label.column, label.party, Text(reason), Text(bound)
        )


def predicted(runner: Runner, model: Any, table: Any, receiver: str) -> Any:
    """Return a model's predictions for a table's rows, (rows,), at the receiver; None at every other party."""
    import pyarrow.orc as orc

    attributes = {"receiver": [receiver], "pred_name": "prediction", "save_ids": False, "save_label": False}
    attributes |= {"input/input_ds/saved_features": []}
    found = runner.run(components()[PREDICTORS[model.type]], attributes, [model, table])["output_ds"]
    if runner.context.party != receiver:
        return None
    [part] = found.data_refs
    return orc.read_table(runner.root / part.uri).column("prediction").to_numpy().astype("float64")


def keep_predictions(context: Context, party: str, predictions: Any, more: Mapping[str, Any] | None = None) -> None:
    """Keep predictions, with ``more`` columns, as the party's output, if it named one."""
    if context.party == party:
        keep_columns(context, {**(more or {}), "prediction": predictions})
