"""Logistic and linear regression on secret shares: SecretFlow's SSRegression on SPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from workers.documents import ColumnName, Document, PartyName, SFInitConfig, TaskConfig
from workers.errors import ConfigError
from workers.executors.base import (
    NUMERIC,
    BaseTaskExecutor,
    Catalogue,
    check_alignment,
    check_column,
    check_columns,
    check_parties,
)
from workers.problems import Problem
from workers.tables import read_columns


class Label(Document):
    party: PartyName = Field(description="Who has the label.")
    column: ColumnName = Field(description="Its column; 0 and 1 for logistic regression.")


class TrainingParams(Document):
    epochs: int = Field(
        default=5, ge=1, le=1000, description="Passes over the rows; time grows with them. 3 to 10 mostly suffice."
    )
    batch_size: int = Field(
        default=1024,
        ge=1,
        le=2**20,
        description="Rows per step: larger ones are faster and need a larger learning rate.",
    )
    learning_rate: float = Field(
        default=0.1,
        gt=0,
        le=100,
        description="Step width; 0.1 to 0.5 suits standardised columns, 0.02 linear regression.",
    )
    sig_type: Literal["real", "t1", "t3", "t5", "df", "sr", "mix"] = Field(
        default="t1", description="Approximation of the sigmoid, for logistic regression; t1 is the fastest."
    )
    penalty: Literal["None", "l2"] = Field(
        default="None", description="Regularisation: l2 keeps weights small, against overfitting."
    )
    l2_norm: float = Field(default=0.5, gt=0, le=1000, description="Weight of the l2 penalty, if that is chosen.")


class MLParams(Document):
    """Parameters of a vertical regression: rows line up, columns are spread over the parties."""

    features: dict[PartyName, list[ColumnName]] = Field(min_length=1, description="For each party its feature columns.")
    label: Label = Field(description="What the model learns to predict.")
    model_type: Literal["logistic_regression", "linear_regression"] = Field(
        default="logistic_regression",
        description="logistic_regression for a label of 0 and 1, linear_regression for a number.",
    )
    standardize: bool = Field(
        default=True, description="Each party scales its own columns to mean 0 and deviation 1 first; SGD needs that."
    )
    training_params: TrainingParams = Field(
        default_factory=TrainingParams, description="How the model is trained, by stochastic gradient descent."
    )


@dataclass(slots=True)
class Prepared:
    params: MLParams
    #: float32, (rows, features of this party); absent where the party has none
    features: Any
    #: float32, (rows, 1); at the label's party
    label: Any
    rows: int


class LogisticRegressionExecutor(BaseTaskExecutor):
    """Trains a logistic or linear regression over columns that several parties hold of the same rows, by stochastic
    gradient descent on secret shares (SecretFlow's SSRegression). The inputs line up row by row: use the outputs of one
    PSI. The predictions stay with the label's party."""

    title = "Logistic or linear regression (SS-SGD)"
    params_key = "ml_params"
    Params = MLParams
    devices = ("spu",)
    aligned = True
    example = {
        "task_type": "lr",
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "outputs": {"bob": "predictions"},
        "algorithm_params": {
            "ml_params": {
                "features": {"alice": ["mean_radius", "mean_texture"], "bob": ["worst_area", "worst_smoothness"]},
                "label": {"party": "bob", "column": "malignant"},
                "training_params": {"epochs": 5, "batch_size": 128, "learning_rate": 0.3},
            }
        },
    }
    preload = ("secretflow.ml.linear.ss_sgd", "secretflow.data.ndarray", "sklearn.metrics", "pyarrow.csv")

    @classmethod
    def check(
        cls, params: MLParams, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue
    ) -> Iterator[Problem]:
        base = f"algorithm_params.{cls.params_key}"
        parties = cluster.parties
        yield from check_parties(params.features, cluster, f"{base}.features")
        for party, columns in params.features.items():
            where = f"{base}.features.{party}"
            yield from check_columns(catalogue, task, party, columns, where, NUMERIC)
            if not columns:
                yield Problem(where, "is empty", "name at least one column, or leave the party out")
            if len(set(columns)) != len(columns):
                yield Problem(where, "names a column twice", "name each column once")
        label = params.label
        if label.party not in parties:
            yield Problem(
                f"{base}.label.party", "is not a party of sf_init_config", f"should be one of {', '.join(parties)}"
            )
        else:
            yield from check_column(catalogue, task, label.party, label.column, f"{base}.label.column", NUMERIC)
        if label.column in params.features.get(label.party, []):
            yield Problem(f"{base}.label.column", "is also a feature", "remove it from the features")
        training, default = params.training_params, TrainingParams()
        if params.model_type == "linear_regression" and training.sig_type != default.sig_type:
            where = f"{base}.training_params.sig_type"
            yield Problem(where, "is for logistic regression, a linear one would ignore it", "remove it")
        if training.penalty == "None" and training.l2_norm != default.l2_norm:
            where = f"{base}.training_params.l2_norm"
            yield Problem(where, "would be ignored without a penalty", "remove it, or set penalty to l2")
        for party in parties:
            if party not in params.features and party != label.party:
                yield Problem(
                    f"{base}.features.{party}", "is required", f"{party} brings neither features nor the label"
                )
        for party in task.outputs:
            if party in parties and party != label.party:
                yield Problem(
                    f"outputs.{party}", "gets nothing from this task", "only the label's party can keep the predictions"
                )

    def validate_params(self, algorithm_params: Mapping[str, Any]) -> Prepared:
        import numpy as np

        params: MLParams = self.parse_params(algorithm_params)
        session = self.session
        dataset = session.source.name
        columns = params.features.get(session.party, [])
        wanted = columns + ([params.label.column] if params.label.party == session.party else [])
        table = read_columns(session.input_path, dataset, wanted)
        features, label = table[:, : len(columns)], table[:, len(columns) :]
        if params.standardize and columns:
            deviation = features.std(axis=0)
            features = (features - features.mean(axis=0)) / np.where(deviation == 0, 1, deviation)
        if label.size and params.model_type == "logistic_regression" and not np.isin(label, (0, 1)).all():
            raise ConfigError(
                f"label {params.label.column!r} at {session.party} has values other than 0 and 1; "
                "logistic regression needs those two"
            )
        if label.size and params.model_type == "logistic_regression" and len(np.unique(label)) < 2:
            raise ConfigError(f"label {params.label.column!r} at {session.party} has one class only; needs 0 and 1")
        return Prepared(params, features.astype(np.float32), label.astype(np.float32), len(table))

    def execute_algorithm(self, algorithm_params: Prepared) -> dict[str, Any]:
        import secretflow as sf
        from secretflow.data.ndarray import FedNdarray, PartitionWay
        from secretflow.ml.linear.ss_sgd import SSRegression

        prepared, params, session = algorithm_params, algorithm_params.params, self.session
        pyu = {p: sf.PYU(p) for p in session.parties}
        # In production mode each line below runs at every party, but a PYU call only at its owner,
        # with the owner's own arguments: the arrays of this party never travel with the call.
        check_alignment(session, prepared.rows, origin=session.source.origin)
        x = FedNdarray(
            partitions={pyu[p]: pyu[p](lambda a: a)(prepared.features) for p in params.features},
            partition_way=PartitionWay.VERTICAL,
        )
        owner = pyu[params.label.party]
        y = FedNdarray(partitions={owner: owner(lambda a: a)(prepared.label)}, partition_way=PartitionWay.VERTICAL)
        logistic = params.model_type == "logistic_regression"
        training = params.training_params
        batch = min(training.batch_size, prepared.rows)
        session.progress(0.0)
        model = SSRegression(session.devices["spu"])
        model.fit(
            x,
            y,
            epochs=training.epochs,
            learning_rate=training.learning_rate,
            batch_size=batch,
            sig_type=training.sig_type,
            reg_type="logistic" if logistic else "linear",
            penalty=training.penalty,
            l2_norm=training.l2_norm,
            eps=0,
            epoch_callback=lambda epoch, _state: session.progress(0.9 * (epoch + 1) / training.epochs),
        )
        predictions = model.predict(x, batch, to_pyu=owner).partitions[owner]
        metrics = sf.reveal(owner(_evaluate)(y.partitions[owner], predictions, logistic))
        if session.party in session.task.outputs:
            target = session.workdir / "predictions.csv"
            # The call is made at every party (all must see the same program), the file at the owner alone
            sf.reveal(owner(_write_predictions)(predictions, str(target)))
            session.keep_output(target)
        elif params.label.party in session.task.outputs:
            sf.reveal(owner(_write_predictions)(predictions, ""))
        session.progress(1.0)
        return {
            "model_type": params.model_type,
            "rows": prepared.rows,
            "features": {p: len(columns) for p, columns in params.features.items()},
            "metrics": metrics,
        }


def _evaluate(label: Any, prediction: Any, logistic: bool) -> dict[str, float]:
    """Metrics on the training rows, computed at the label's party."""
    import numpy as np
    from sklearn import metrics

    y, p = np.asarray(label).ravel(), np.asarray(prediction).ravel()
    if logistic:
        return {
            "auc": float(metrics.roc_auc_score(y, p)),
            "accuracy": float(metrics.accuracy_score(y, p >= 0.5)),
        }
    return {
        "r2": float(metrics.r2_score(y, p)),
        "rmse": float(np.sqrt(metrics.mean_squared_error(y, p))),
    }


def _write_predictions(prediction: Any, path: str) -> int:
    import numpy as np

    values = np.asarray(prediction).ravel()
    np.savetxt(path, values, fmt="%.9g", header="prediction", comments="")
    return len(values)
