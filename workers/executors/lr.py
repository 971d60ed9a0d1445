"""Logistic and linear regression on secret shares: SecretFlow's SSRegression on SPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from workers.contract.catalogue import Catalogue
from workers.contract.documents import Document, SFInitConfig, TaskConfig
from workers.contract.problems import Problem
from workers.executors.training import MODEL, TrainingData, TrainingExecutor, batch_of


class TrainingParams(Document):
    epochs: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Passes over the rows; the time grows with them. 3 to 10 are mostly enough.",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=2**20,
        description="Rows per step: larger steps are faster, and need more epochs or a larger learning rate. If left "
        "out, an epoch has some 20 steps of 16 to 1,024 rows each. The last step takes the rows that are left.",
    )
    learning_rate: float = Field(
        default=0.1,
        gt=0,
        le=100,
        description="Step width; 0.1 to 0.5 suits standardized columns, 0.05 to 0.1 linear regression.",
    )
    sig_type: Literal["real", "t1", "t3", "t5", "df", "sr", "mix"] = Field(
        default="t1", description="Approximation of the sigmoid, for logistic regression; t1 is the fastest."
    )
    penalty: Literal["None", "l2"] = Field(
        default="None", description="Regularisation: l2 keeps weights small, against overfitting."
    )
    l2_norm: float = Field(default=0.5, gt=0, le=1000, description="Weight of the l2 penalty, if it is chosen.")


class MLParams(TrainingData):
    """Parameters of a vertical regression: rows line up, columns are spread over the parties."""

    model_type: Literal["logistic_regression", "linear_regression"] = Field(
        default="logistic_regression",
        description="logistic_regression for a label of 0 and 1, linear_regression for a number.",
    )
    training_params: TrainingParams = Field(
        default_factory=TrainingParams, description="How the model is trained, by stochastic gradient descent."
    )


class LogisticRegressionExecutor(TrainingExecutor):
    """Trains a logistic or linear regression over columns that several parties hold of the same rows, by stochastic
    gradient descent on secret shares (SecretFlow's SSRegression). The inputs line up row by row: use the outputs of one
    PSI. The predictions stay with the label's party, the model is kept by all."""

    title = "Logistic or linear regression (SS-SGD)"
    params_key = "ml_params"
    Params = MLParams
    component = "ml.train/ss_sgd_train"
    kind = "sf.model.ss_sgd"
    example = {
        "task_type": "lr",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "outputs": {"bob": "predictions"},
        "further_outputs": {MODEL: {"alice": "lr_model", "bob": "lr_model"}},
        "algorithm_params": {
            "ml_params": {
                "features": {"alice": ["mean_radius", "mean_texture"], "bob": ["worst_area", "worst_smoothness"]},
                "label": {"party": "bob", "column": "malignant"},
                "training_params": {"epochs": 5, "batch_size": 128, "learning_rate": 0.3},
            }
        },
    }

    @classmethod
    def is_classification(cls, params: MLParams) -> bool:
        return params.model_type == "logistic_regression"

    @classmethod
    def scales_label(cls, params: MLParams) -> bool:
        return params.standardize and not cls.is_classification(params)

    @classmethod
    def attributes(cls, params: MLParams, rows: int) -> dict[str, Any]:
        found = params.training_params.model_dump()
        is_logistic = cls.is_classification(params)
        return found | {
            "batch_size": min(params.training_params.batch_size or batch_of(rows), rows),
            "reg_type": "logistic" if is_logistic else "linear",
            "eps": 0.0,  # all epochs should run
        }

    @classmethod
    def check(
        cls, params: MLParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        yield from super().check(params, task, cluster, catalogue)
        base = f"algorithm_params.{cls.params_key}.training_params"
        training, default = params.training_params, TrainingParams()
        if params.model_type == "linear_regression" and training.sig_type != default.sig_type:
            yield Problem(f"{base}.sig_type", "is for logistic regression, a linear one would ignore it", "remove it")
        if training.penalty == "None" and training.l2_norm != default.l2_norm:
            yield Problem(f"{base}.l2_norm", "would be ignored without a penalty", "remove it, or set penalty to l2")
