"""Predictions with a model that the parties keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from workers.components.definition import Columns, components
from workers.components.files import Kept
from workers.components.run import Runner
from workers.components.shares import check_shares, spu_settings, with_spu
from workers.contract.catalogue import Catalogue
from workers.contract.checks import check_columns, check_each_party, not_a_party
from workers.contract.documents import ColumnName, Document, PartyName, SFInitConfig, TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import Problem
from workers.contract.results import ModelResult
from workers.contract.roles import Roles
from workers.contract.wording import Text
from workers.executors.doubts import warn_of_model
from workers.executors.metrics import measured
from workers.executors.training import (
    LABEL_SCALING,
    MODEL,
    PREDICTORS,
    check_features,
    feature_names,
    fillers,
    keep_predictions,
    predicted,
)
from workers.executors.vertical import VerticalExecutor, check_outputs, listed, private_table
from workers.host.tables import read_columns, read_text


class PredictParams(Document):
    """Parameters of a prediction."""

    receiver: PartyName = Field(description="Party that learns the predictions and keeps them.")
    keep_columns: list[ColumnName] = Field(
        default_factory=list,
        description="Columns of the receiver's table to keep beside the predictions, such as a key.",
    )
    label: ColumnName | None = Field(
        default=None,
        description="Column of the receiver's table with the actual values. If given, the result says how good the "
        "predictions are.",
    )


@dataclass(slots=True)
class Prepared:
    params: PredictParams
    model: Kept
    #: Facts of the training, such as the features by party and whether the label is 0 and 1.
    training: dict[str, Any]
    #: Values by the column's own name, scaled as in training.
    values: dict[str, Any]
    label: Any
    kept: dict[str, Any]
    rows: int


class PredictExecutor(VerticalExecutor):
    """Predicts with a model that a training task kept, named as ``further_sources.model``: regression, generalised
    linear model or boosted trees. Columns have the same names as in training, and are scaled in the same way. One party
    learns the predictions."""

    title = "Prediction"
    params_key = "predict_params"
    Params = PredictParams
    Result = ModelResult
    preload = ("secretflow.component.core", "sklearn.metrics", "pyarrow.csv")
    example = {
        "task_type": "predict",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "further_sources": {"model": {"alice": "lr_model", "bob": "lr_model"}},
        "outputs": {"bob": "scored"},
        "algorithm_params": {
            "predict_params": {"receiver": "bob", "keep_columns": ["uid", "malignant"], "label": "malignant"}
        },
    }

    @classmethod
    def roles(cls, params: Any) -> Roles:
        return Roles(sources={MODEL: frozenset(PREDICTORS)})

    @classmethod
    def check(
        cls, params: PredictParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        base = f"algorithm_params.{cls.params_key}"
        named = task.further_sources.get(MODEL, {})
        yield from check_each_party(named, cluster, f"further_sources.{MODEL}", "name {party}'s part of the model")
        if params.receiver not in cluster.parties:
            yield not_a_party(f"{base}.receiver", cluster.parties)
            return
        yield from check_columns(catalogue, task, params.receiver, params.keep_columns, f"{base}.keep_columns")
        if params.label:
            yield from check_columns(catalogue, task, params.receiver, [params.label], f"{base}.label")
        if "prediction" in params.keep_columns:
            yield Problem(
                f"{base}.keep_columns", "names a column 'prediction'", "that is what the predictions are called"
            )
        yield from check_outputs(task, params.receiver, cluster, "the predictions")
        if params.receiver not in task.outputs and not params.label:
            yield Problem(f"outputs.{params.receiver}", "is required", "name what the predictions are kept as")

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        params: PredictParams = self.parse_params(algorithm_params)
        context, party = self.context, self.context.party
        source = context.sources[MODEL]
        model = Kept(source.path, source.name, party)
        training = model.record.get("task")
        if not isinstance(training, dict):
            raise ConfigError(
                "{} at {} was kept by a component; predict with its own component, {}",
                source.name,
                party,
                Text(PREDICTORS[source.kind]),
            )
        names = feature_names(training["features"], training.get("label_party"))
        if missing := set(names) - set(context.parties):
            raise ConfigError("{} was trained with {}, who is not here", source.name, sorted(missing))
        columns = training["features"].get(party, [])
        is_receiver = party == params.receiver
        labels = [params.label] if is_receiver and params.label else []
        table = read_columns(context.input_path, context.source.name, columns + labels)
        values = {}
        mine = names.get(party, {})
        for index, column in enumerate(columns):
            name = mine[column]
            mean, deviation = model.own["scaling"].get(name, (0.0, 1.0))
            values[name] = (table[:, index] - mean) / deviation
        values |= fillers(mine, len(table))
        kept = read_text(context.input_path, context.source.name, params.keep_columns) if is_receiver else {}
        return Prepared(params, model, training, values, table[:, -1] if labels else None, kept, len(table))

    def adapted(self, algorithm_params: Prepared, devices: Mapping[str, Any]) -> Mapping[str, Any]:
        source = self.context.sources[MODEL]
        found = with_spu(devices, spu_settings(components()[PREDICTORS[source.kind]], None, algorithm_params.model))
        check_shares(algorithm_params.model, source.name, found, self.context.parties)
        return found

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        prepared, params, context = algorithm_params, algorithm_params.params, self.context
        runner = Runner(context)
        model = runner.model(MODEL, prepared.model)
        names = feature_names(prepared.training["features"], prepared.training.get("label_party"))
        check_features(context, model.type, prepared.values, names)
        columns = Columns(features=listed(names))
        table = runner.table("rows", columns, private_table(context, prepared.values, "rows"))
        context.progress(0.1)
        predictions = predicted(runner, model, table, params.receiver)
        if prepared.training.get("scales_label"):
            predictions = self._in_the_labels_scale(prepared, predictions)
        context.progress(0.8)
        result: dict[str, Any] = {"rows": prepared.rows, "model": model.type}
        if params.label:
            result |= measured(
                context, params.receiver, prepared.label, predictions, prepared.training["is_classification"]
            )
            if result["metrics"]:  # a bad label tells nothing of the model
                warn_of_model(
                    context, params.receiver, prepared.label, predictions, prepared.training["is_classification"]
                )
        keep_predictions(context, params.receiver, predictions, prepared.kept)
        context.progress(1.0)
        return result

    def _in_the_labels_scale(self, prepared: Prepared, predictions: Any) -> Any:
        """Return the receiver's predictions in the label's scale, which only the receiver learns."""
        import secretflow as sf

        told: list[Any] = []

        def take(found: Any) -> bool:
            told.append(found)
            return True

        owner, receiver = (sf.PYU(p) for p in (prepared.training["label_party"], prepared.params.receiver))
        scaling = owner(lambda mine: mine)(prepared.model.own.get(LABEL_SCALING))
        # Runs at the receiver, in this process: all that is revealed is that it ran
        sf.reveal(receiver(take)(scaling.to(receiver)))
        if predictions is None:
            return None
        [(mean, deviation)] = told
        return predictions * deviation + mean
