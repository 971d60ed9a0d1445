"""An example of each component: a ``task_config`` that runs on the demo's tables, alice's and bob's.

``EXAMPLES`` says of each what cannot be known from the component itself; the rest is derived. An output has the name of
the component that keeps it, a further one that name and its own: ``vert_binning`` and ``vert_binning_output_rule``. So
the name of what an example reads says which one keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.components.definition import TABLES, Component

#: Name that the example of the task type psi keeps its output under.
COMMON = "in_common"
STANDARDIZED, SAMPLE = "feature_calculate", "sample"
BOTH = ("alice", "bob")
ALICE, BOB = ["mean_radius", "mean_texture"], ["worst_area", "worst_smoothness"]
FEATURES = {"features": {"alice": ALICE, "bob": BOB}}
LABEL, IDS = {"labels": {"bob": ["malignant"]}}, {"ids": {"bob": ["uid"]}}
TWO = {"features": {"alice": ALICE[:1], "bob": BOB[:1]}}
SCORES = {"labels": {"bob": ["malignant", "pred"]}, "select": {"label": "malignant", "prediction": "pred"}}
#: A model as io/read_data shows it: a tree with one split, on a column of bob's. Rules and ss_glm models have no
#: example: one can only be written over a model with the same modelHash, which changes each time.
TREE = {
    "labelHolder": "bob",
    "common": {
        "link": "logit",
        "partitionColumn": {"alice": {"featureNames": ["mean_radius"]}, "bob": {"featureNames": ["worst_area"]}},
        "treeNum": 1,
    },
    "ensembleLeafWeights": {"treeLeafWeights": [{"weights": [-1.0, 1.0]}]},
    "ensembleSplitTrees": {
        party: {
            "splitTrees": [
                {"splitFeatures": [asks], "splitValues": [bound], "splitIndices": [0], "leafIndices": [1, 2]}
            ]
        }
        for party, asks, bound in (("alice", -1, "Infinity"), ("bob", 0, 0.5))
    },
}


@dataclass(frozen=True)
class _Example:
    #: Columns by input table.
    columns: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    #: Name of the inputs in data_sources.
    reads: str = COMMON
    #: Names of the inputs in further_sources, by role.
    further: Mapping[str, str] = field(default_factory=dict)
    parties: tuple[str, ...] = BOTH


def _train(attributes: Mapping[str, Any], columns: Mapping[str, Any] = FEATURES, reads: str = STANDARDIZED) -> _Example:
    return _Example({"input_ds": {**columns, **LABEL}}, attributes, reads)


def _predict(kind: str, columns: Mapping[str, Any] = FEATURES, reads: str = STANDARDIZED, **more: Any) -> _Example:
    columns = {"input_ds": {**columns, **LABEL, **IDS}}
    return _Example(columns, {"receiver": "bob", "save_label": True}, reads, {"input_model": f"{kind}_train"}, **more)


def _of_scores(columns: Mapping[str, Any], attributes: Mapping[str, Any]) -> _Example:
    return _Example({"input_ds": columns}, attributes, "ss_sgd_predict")


def _keyed(party: str, column: str) -> dict[str, Any]:
    return {"ids": {party: ["uid"]}, "features": {party: [column]}}


EXAMPLES = {
    "data_filter/condition_filter": _Example(
        {"input_ds": FEATURES | {"select": {"feature": "mean_radius"}}}, {"comparator": ">", "bound_value": "15"}
    ),
    "data_filter/expr_condition_filter": _Example(
        {"input_ds": FEATURES}, {"expr": "worst_area > 700 and worst_smoothness < 0.15"}
    ),
    "data_filter/feature_filter": _Example({"input_ds": FEATURES | {"select": {"drop_features": ["mean_texture"]}}}),
    "data_filter/sample": _Example(
        {"input_ds": FEATURES | LABEL | IDS},
        {"sample_algorithm": {"choose": "random", "random": {"frac": 0.05}}},
        STANDARDIZED,
    ),
    "data_prep/psi": _Example(
        {"input_ds1": _keyed("alice", "mean_radius"), "input_ds2": _keyed("bob", "worst_area")},
        {"input_ds1_keys_duplicated": False, "input_ds2_keys_duplicated": False},
        "breast_cancer",
    ),
    "data_prep/psi_tp": _Example(
        {
            "input_ds1": _keyed("alice", "mean_radius"),
            "input_ds2": _keyed("bob", "worst_area"),
            "input_ds3": {"ids": {"carol": ["uid"]}},
        },
        reads="breast_cancer",
        parties=("alice", "bob", "carol"),
    ),
    "data_prep/train_test_split": _Example(
        {"input_ds": FEATURES | LABEL}, {"train_size": 0.7, "test_size": 0.3, "random_state": 7}
    ),
    "data_prep/unbalance_psi_cache": _Example(
        {"input_ds": _keyed("alice", "mean_radius")}, {"client": "bob"}, "breast_cancer"
    ),
    "data_prep/unbalance_psi": _Example(
        {"client_ds": _keyed("bob", "worst_area")},
        {"receiver_parties": ["bob"]},
        "breast_cancer",
        {"cache": "unbalance_psi_cache"},
    ),
    "data_prep/union": _Example(
        {"input_ds1": FEATURES, "input_ds2": FEATURES},
        reads="train_test_split",
        further={"input_ds2": "train_test_split_test_ds"},
    ),
    "io/identity": _Example(reads="ss_sgd_train"),
    "io/read_data": _Example(reads="vert_binning_output_rule"),
    "io/write_data": _Example(
        attributes={"write_data": json.dumps(TREE), "write_data_type": "sf.model.sgb"}, reads="sgb_train"
    ),
    "ml.eval/biclassification_eval": _of_scores(SCORES, {"bucket_size": 5}),
    "ml.eval/prediction_bias_eval": _of_scores(SCORES, {"bucket_num": 5, "bucket_method": "equal_frequency"}),
    "ml.eval/regression_eval": _of_scores(SCORES, {"bucket_size": 5}),
    "ml.eval/ss_pvalue": _Example(
        {"input_ds": FEATURES | LABEL}, reads=STANDARDIZED, further={"input_model": "ss_sgd_train"}
    ),
    "ml.train/gnb_train": _train({"n_classes": 2}),
    "ml.train/gpc_train": _train({"n_classes": 2, "max_iter_predict": 3}, TWO, SAMPLE),
    "ml.train/kmeans_train": _Example({"input_ds": FEATURES}, {"n_clusters": 2, "max_iter": 5}, STANDARDIZED),
    "ml.train/knn_train": _train({"n_classes": 2, "n_neighbors": 1}, TWO, SAMPLE),
    "ml.train/sgb_train": _train({"num_boost_round": 3, "max_depth": 3}),
    "ml.train/ss_glm_train": _train(
        {
            "epochs": 3,
            "learning_rate": 0.3,
            "batch_size": 128,
            "link_type": "Logit",
            "label_dist_type": "Bernoulli",
            "optimizer": "SGD",
        }
    ),
    "ml.train/ss_sgd_train": _train({"epochs": 3, "learning_rate": 0.3, "batch_size": 128, "reg_type": "logistic"}),
    "ml.train/ss_xgb_train": _train({"num_boost_round": 2, "max_depth": 2}),
    "ml.predict/gnb_predict": _predict("gnb"),
    "ml.predict/gpc_predict": _predict("gpc", TWO, SAMPLE),
    "ml.predict/kmeans_predict": _Example(
        {"input_ds": FEATURES | IDS}, {"receiver": "bob"}, STANDARDIZED, {"input_model": "kmeans_train"}
    ),
    "ml.predict/knn_predict": _predict("knn", TWO, SAMPLE),
    "ml.predict/sgb_predict": _predict("sgb"),
    "ml.predict/ss_glm_predict": _predict("ss_glm"),
    "ml.predict/ss_sgd_predict": _predict("ss_sgd"),
    "ml.predict/ss_xgb_predict": _predict("ss_xgb"),
    "model/model_export": _Example(attributes={"model_name": "malignancy"}, reads="sgb_train"),
    "postprocessing/score_card_transformer": _of_scores(
        {"labels": {"bob": ["pred"]}, "select": {"predict_name": "pred"}},
        {"positive": 1, "predict_score_name": "score", "scaled_value": 600, "odd_base": 20, "pdo": 20},
    ),
    "preprocessing/binary_op": _Example(
        {"input_ds": FEATURES | {"select": {"f1": "mean_radius", "f2": "mean_texture"}}},
        {"binary_op": "*", "new_feature_name": "radius_by_texture"},
    ),
    "preprocessing/case_when": _Example(
        {"input_ds": FEATURES},
        {
            "rules": {
                "whens": [
                    {
                        "conds": [
                            {
                                "cond_column": "mean_radius",
                                "op": "GT",
                                "cond_value": {"type": "CONST_FLOAT", "f": 15.0},
                            }
                        ],
                        "then": {"type": "CONST_INT", "i": 1},
                    }
                ],
                "else_value": {"type": "CONST_INT", "i": 0},
                "output_column": "is_large",
                "float_epsilon": 1e-6,
            }
        },
    ),
    "preprocessing/cast": _Example(
        {"input_ds": {"features": {"alice": ALICE, "bob": ["malignant"]}, "select": {"columns": ["malignant"]}}},
        {"astype": {"choose": "string"}},
    ),
    "preprocessing/feature_calculate": _Example(
        {"input_ds": FEATURES | LABEL | IDS | {"select": {"features": [*ALICE, *BOB]}}},
        {"rules": {"op": "STANDARDIZE"}},
    ),
    "preprocessing/fillna": _Example(
        {
            "input_ds": {
                "features": {"alice": ["mean_concavity"], "bob": BOB},
                "select": {"fill_na_features": ["mean_concavity"]},
            }
        },
        {"float_outliers": [0.0], "float_fill_strategy": "mean"},
    ),
    "preprocessing/onehot_encode": _Example(
        {"input_ds": {"features": {"alice": ALICE, "bob": ["malignant"]}, "select": {"features": ["malignant"]}}}
    ),
    "preprocessing/sql_processor": _Example(
        {"input_ds": FEATURES}, {"sql": "SELECT mean_texture, mean_radius * 2 AS mean_diameter, worst_area"}
    ),
    "preprocessing/substitution": _Example(
        {"input_ds": FEATURES}, reads="train_test_split_test_ds", further={"input_rule": "vert_binning_output_rule"}
    ),
    "preprocessing/vert_binning": _Example({"input_ds": FEATURES}, {"bin_num": 4}),
    "preprocessing/vert_woe_binning": _Example(
        {"input_ds": FEATURES | LABEL}, {"secure_device_type": "spu", "bin_num": 4, "positive_label": "1"}
    ),
    "stats/groupby_statistics": _Example(
        {"input_ds": {"features": {"alice": ALICE[:1], "bob": ["malignant"]}, "select": {"by": ["malignant"]}}},
        {"aggregation_config": {"column_queries": [{"function": "MEAN", "column_name": "mean_radius"}]}},
    ),
    "stats/ss_pearsonr": _Example({"input_ds": FEATURES}),
    "stats/ss_vif": _Example({"input_ds": FEATURES}),
    "stats/stats_psi": _Example(
        {"input_base_ds": FEATURES, "input_test_ds": FEATURES},
        reads="train_test_split",
        further={"input_test_ds": "train_test_split_test_ds", "input_rule": "vert_binning_output_rule"},
    ),
    "stats/table_statistics": _Example({"input_ds": FEATURES}),
}


def example_of(component: Component) -> dict[str, Any]:
    """Return a ``task_config``; empty if the component cannot run here."""
    found = EXAMPLES.get(component.id)
    if found is None:
        return {}
    params: dict[str, Any] = {"component": component.id}
    params |= {"columns": dict(found.columns)} if found.columns else {}
    params |= {"attributes": dict(found.attributes)} if found.attributes else {}
    read_first = [entry["name"] for entry in component.inputs if entry["name"] not in found.further]
    sources = [party for party in found.parties if party in _readers(found, read_first)]
    keeps = dict(_kept(component, found))
    made: dict[str, Any] = {"task_type": "component", "data_sources": dict.fromkeys(sources, found.reads)}
    if found.further:
        made["further_sources"] = {
            role: dict.fromkeys((p for p in found.parties if p in _readers(found, [role])), name)
            for role, name in found.further.items()
        }
    if main := keeps.pop("", None):
        made["outputs"] = main
    if keeps:
        made["further_outputs"] = keeps
    return made | {"algorithm_params": {"component_params": params}}


def _readers(found: _Example, roles: list[str]) -> set[str]:
    """Return the parties that have a part in these inputs: those with columns in a table, all parties for a model."""
    readers: set[str] = set()
    for role in roles:
        columns = found.columns.get(role)
        if columns is None:
            # if there are tables, other inputs are in further_sources
            readers |= set() if found.columns and role not in found.further else set(found.parties)
            continue
        readers |= {party for kind in ("features", "labels", "ids") for party in columns.get(kind, ())}
    return readers


def _kept(component: Component, found: _Example) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each role ("" for outputs) with the names that parties keep it under."""
    short = component.id.partition("/")[2]
    receivers = found.attributes.get("receiver") or found.attributes.get("receiver_parties")
    for index, kept in enumerate(component.kept):
        is_table = bool(TABLES & set(kept["kinds"]))
        parties = [receivers] if isinstance(receivers, str) else receivers or _readers(found, list(found.columns))
        named = [party for party in found.parties if party in parties] if is_table else found.parties
        yield kept["name"] if index else "", dict.fromkeys(named, f"{short}_{kept['name']}" if index else short)
