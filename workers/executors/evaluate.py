"""Metrics of predictions, from a label and a prediction at one party."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from workers.contract.catalogue import NUMERIC, Catalogue
from workers.contract.checks import check_column, not_a_party
from workers.contract.documents import ColumnName, Document, PartyName, SFInitConfig, TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.problems import Problem
from workers.contract.results import ModelResult
from workers.contract.roles import Roles
from workers.contract.wording import Text
from workers.executors.base import BaseTaskExecutor
from workers.executors.metrics import measured, unfit
from workers.executors.vertical import check_no_outputs
from workers.host.tables import read_columns


class EvaluateParams(Document):
    """Parameters of an evaluation."""

    party: PartyName = Field(description="Party that has the predictions and the label.")
    prediction: ColumnName = Field(default="prediction", description="Column of the predictions.")
    label: ColumnName = Field(description="Column of the label: the actual value.")
    kind: Literal["classification", "regression"] = Field(
        default="classification",
        description="classification, for 0 and 1: AUC, KS, accuracy, lift. regression: R squared and errors.",
    )


class EvaluateExecutor(BaseTaskExecutor):
    """Tells all parties how good the predictions are that one of them keeps: AUC, KS (the greatest distance between the
    rates of true and false alarms), accuracy at 0.5 and lift, or the errors of a regression. Rows with equal
    predictions have no order: the lift is the mean over all orders. A figure without a value, such as r2 of one row, is
    left out, and warnings say why. The figures leave that party, its rows do not."""

    title = "Evaluation"
    params_key = "evaluate_params"
    Params = EvaluateParams
    Result = ModelResult
    devices = ()
    preload = ("sklearn.metrics", "pyarrow.csv")
    example = {
        "task_type": "evaluate",
        "data_sources": {"bob": "scored"},
        "algorithm_params": {"evaluate_params": {"party": "bob", "label": "malignant"}},
    }

    @classmethod
    def roles(cls, params: Any) -> Roles:
        return Roles(is_required=False)

    @classmethod
    def check(
        cls, params: EvaluateParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        base = f"algorithm_params.{cls.params_key}"
        if params.party not in cluster.parties:
            yield not_a_party(f"{base}.party", cluster.parties)
            return
        if params.party not in task.data_sources:
            yield Problem(f"data_sources.{params.party}", "is required", f"name the table of {params.party}")
        for name in ("label", "prediction"):
            yield from check_column(catalogue, task, params.party, getattr(params, name), f"{base}.{name}", NUMERIC)
        yield from check_no_outputs(task)

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Any:
        params: EvaluateParams = self.parse_params(algorithm_params)
        if params.party != self.context.party:
            return params, None
        source = self.context.source
        values = read_columns(source.path, source.name, [params.label, params.prediction])
        problem = unfit(values[:, 0], "for numbers say kind: regression") if params.kind == "classification" else ""
        if problem:
            raise ConfigError(
                "column {!r} of dataset {} at {}: {}", params.label, source.name, params.party, Text(problem)
            )
        return params, values

    def execute_algorithm(self, algorithm_params: Any) -> dict[str, Any]:
        params, values = algorithm_params
        label, prediction = (values[:, 0], values[:, 1]) if values is not None else (None, None)
        found = measured(self.context, params.party, label, prediction, params.kind == "classification")
        self.context.progress(1.0)
        return found | ({"rows": len(values)} if values is not None else {})
