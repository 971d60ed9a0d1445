"""Generalised linear models and boosted trees."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any

from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from workers.components.definition import components
from workers.contract.catalogue import Catalogue
from workers.contract.documents import Document, SFInitConfig, TaskConfig
from workers.contract.problems import Problem
from workers.executors.training import MODEL, TrainingData, TrainingExecutor, batch_of


def _params(component: str, doc: str, **defaults: Any) -> type[Document]:
    """Return a parameter model: the data, and the component's own attributes with other defaults."""
    found = components()[component].params.model_fields["attributes"]
    attributes: Any = found.annotation
    if defaults:
        changed: Any = {name: _with_default(attributes.model_fields[name], value) for name, value in defaults.items()}
        attributes = create_model("Attributes", __base__=attributes, **changed)
    text = "How the model is trained."
    made: Any = Field(description=text) if found.is_required() else Field(default_factory=attributes, description=text)
    return create_model("Params", __base__=TrainingData, __doc__=doc, training_params=(attributes, made))


def _with_default(field: FieldInfo, value: Any) -> tuple[Any, FieldInfo]:
    changed = copy(field)
    changed.default = value
    return changed.annotation, changed


def _example(task_type: str, key: str, training_params: dict[str, Any]) -> dict[str, Any]:
    return {
        "task_type": task_type,
        "data_sources": {"alice": "in_common", "bob": "in_common"},
        "outputs": {"bob": "predictions"},
        "further_outputs": {MODEL: {"alice": f"{task_type}_model", "bob": f"{task_type}_model"}},
        "algorithm_params": {
            key: {
                "features": {"alice": ["mean_radius", "mean_texture"], "bob": ["worst_area", "worst_smoothness"]},
                "label": {"party": "bob", "column": "malignant"},
                "training_params": training_params,
            }
        },
    }


class SSGLMExecutor(TrainingExecutor):
    """Trains a generalised linear model on secret shares (SecretFlow's SS-GLM): a link and a distribution of the label,
    such as Logit and Bernoulli for yes or no, Log and Poisson for counts, Log and Gamma for amounts. The inputs line up
    row by row: use the outputs of one PSI. Predictions stay with the label's party, the model is kept by all."""

    title = "Generalised linear model (SS-GLM)"
    params_key = "glm_params"
    component = "ml.train/ss_glm_train"
    kind = "sf.model.ss_glm"
    Params = _params(component, "Parameters of a generalised linear model.")
    example = _example(
        "ss_glm",
        params_key,
        {"epochs": 3, "learning_rate": 0.3, "batch_size": 128, "link_type": "Logit", "label_dist_type": "Bernoulli",
         "optimizer": "SGD"},
    )  # fmt: skip

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        yield from super().check(params, task, cluster, catalogue)
        if params.training_params.exp_mode == "prime":
            path = f"algorithm_params.{cls.params_key}.training_params.exp_mode"
            yield Problem(path, "prime is not offered by the SPU as it is set up here", "use taylor or pade")
        owner = params.label.party
        if params.training_params.optimizer == "IRLS" and not params.features.get(owner):
            path = f"algorithm_params.{cls.params_key}.features.{owner}"
            yield Problem(path, "is required with the optimizer IRLS", f"name a feature of {owner}, or use SGD")

    @classmethod
    def attributes(cls, params: Any, rows: int) -> dict[str, Any]:
        training = params.training_params
        said = training.batch_size if "batch_size" in training.model_fields_set else batch_of(rows)
        return super().attributes(params, rows) | {"batch_size": min(said, rows)}

    @classmethod
    def is_classification(cls, params: Any) -> bool:
        return bool(params.training_params.label_dist_type == "Bernoulli")

    @classmethod
    def label_rule(cls, params: Any) -> tuple[float, bool, str] | None:
        distribution = params.training_params.label_dist_type
        rule = {"Poisson": (0.0, True), "Gamma": (0.0, False), "Tweedie": (0.0, True)}.get(distribution)
        return (*rule, f"a {distribution} distribution") if rule else None


class SSXGBExecutor(TrainingExecutor):
    """Trains boosted trees on secret shares (SecretFlow's SS-XGB): nobody sees anything of the data or the trees, which
    takes longer than SecureBoost. The inputs line up row by row: use the outputs of one PSI. Predictions stay with the
    label's party, the model is kept by all."""

    title = "Boosted trees (SS-XGB)"
    params_key = "xgb_params"
    component = "ml.train/ss_xgb_train"
    kind = "sf.model.ss_xgb"
    # With SecretFlow's own defaults each tree sees a tenth of the rows and of the columns
    Params = _params(component, "Parameters of boosted trees on secret shares.", subsample=1.0, colsample_by_tree=1.0)
    example = _example("ss_xgb", params_key, {"num_boost_round": 2, "max_depth": 3})

    @classmethod
    def is_classification(cls, params: Any) -> bool:
        return bool(params.training_params.objective == "logistic")

    @classmethod
    def scales_label(cls, params: Any) -> bool:
        return _begins_at_mean(params)


class SGBExecutor(TrainingExecutor):
    """Trains boosted trees under homomorphic encryption (SecretFlow's SGB, known as SecureBoost): the label's party
    sees how rows fall into the others' nodes, which is much faster than on secret shares. The inputs line up row by
    row: use the outputs of one PSI. Predictions stay with the label's party, the model is kept by all."""

    title = "Boosted trees (SecureBoost)"
    params_key = "sgb_params"
    component = "ml.train/sgb_train"
    kind = "sf.model.sgb"
    devices = ("heu",)
    Params = _params(component, "Parameters of SecureBoost.")
    example = _example("sgb", params_key, {"num_boost_round": 3, "max_depth": 3})

    @classmethod
    def check(cls, params: Any, task: TaskConfig, cluster: SFInitConfig, catalogue: Catalogue) -> Iterator[Problem]:
        yield from super().check(params, task, cluster, catalogue)
        if params.training_params.reg_lambda == 0:
            path = f"algorithm_params.{cls.params_key}.training_params.reg_lambda"
            yield Problem(path, "is zero, and SecureBoost divides by zero where a bin is empty", "use 0.01 or so")

    @classmethod
    def is_classification(cls, params: Any) -> bool:
        return bool(params.training_params.objective == "logistic")

    @classmethod
    def scales_label(cls, params: Any) -> bool:
        return _begins_at_mean(params)


def _begins_at_mean(params: Any) -> bool:
    """Return whether trees for a number begin at its mean: they do unless the task names a ``base_score``."""
    training = params.training_params
    return bool(params.standardize and training.objective == "linear" and training.base_score == 0)
