"""Every SecretFlow component that can run here, run by real parties, against a computation in the clear."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from tests.differential.linear import sgd
from tests.parties import SMALL_KEYS, Parties, Processes
from workers.components.definition import components

frame = load_breast_cancer(as_frame=True).frame
frame.columns = [name.replace(" ", "_") for name in frame.columns]
X = frame.drop(columns="target")
X = ((X - X.mean()) / X.std()).round(6)
A, B = list(X.columns[:4]), list(X.columns[16:20])
#: What either party has, and what both would have if they put it together.
ALICE = pd.DataFrame({"uid": [f"u{i}" for i in range(len(X))]}).join(X[A])
ALICE["group"] = ["xyz"[i % 3] for i in range(len(X))]
BOB = pd.DataFrame({"user_id": ALICE.uid}).join(X[B])
BOB["y"] = frame.target
BOB["size"] = (BOB[B[0]] * 3 + 20).round(3)
BOB["words"] = ALICE["group"].where(np.arange(len(X)) % 7 > 0)
BOB["gap"] = BOB[B[1]].where(np.arange(len(X)) % 10 > 0)
ALL = ALICE.join(BOB)
SMALL = ALICE[["uid", A[0]]].iloc[100:150]
F, BOTH = {"alice": A, "bob": B}, ("alice", "bob")
LABEL, IDS = {"bob": ["y"]}, {"bob": ["user_id"]}
#: Some of the rows, by the name of the tables that have them.
PARTS = {
    "rows": slice(None),
    "half": slice(None, None, 2),
    "few": slice(60),
    "tiny": slice(12, 28),
    "eight": slice(16, 24),
}
RAN: set[str] = set()


@pytest.fixture(scope="module")
def parties(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    found = Parties(processes, tmp_path_factory.mktemp("two"), BOTH, spu_config={}, heu_config=SMALL_KEYS)
    for name, rows in PARTS.items():
        found.table("alice", name, ALICE.iloc[rows])
        found.table("bob", name, BOB.iloc[rows])
    found.table("alice", "small", SMALL)
    found.table("bob", "small", BOB[["user_id", B[0]]].iloc[120:200])
    yield found
    found.close()


def task(name: str, columns: Any = None, attributes: Any = None, **more: Any) -> dict[str, Any]:
    params = {"component": name} | ({"columns": columns} if columns else {})
    params |= {"attributes": attributes} if attributes else {}
    RAN.add(name)
    more = {key: dict.fromkeys(BOTH, value) if isinstance(value, str) else value for key, value in more.items()}
    roles = {
        key: {
            role: dict.fromkeys(BOTH, named) if isinstance(named, str) else named for role, named in more[key].items()
        }
        for key in ("further_sources", "further_outputs")
        if key in more
    }
    return (
        {
            "task_type": "component",
            "data_sources": {"alice": "rows", "bob": "rows"},
            "algorithm_params": {"component_params": params},
        }
        | more
        | roles
    )


def report(answers: dict[str, Any], tab: int = 0) -> pd.DataFrame:
    assert answers["alice"]["reports"] == answers["bob"]["reports"]
    [table] = answers["alice"]["reports"]["report"][tab]["tables"]
    found = pd.DataFrame(table["rows"], columns=table["columns"])
    return found.set_index("") if "" in found else found


def values(answers: dict[str, Any], tab: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = answers["alice"]["reports"]["report"][tab]["values"]
    return found


def train(parties: Parties, kind: str, attributes: dict[str, Any], rows: str = "rows", of: Any = F) -> None:
    columns = {"input_ds": {"features": of} | ({} if kind == "kmeans" else {"labels": LABEL})}
    parties.run(task(f"ml.train/{kind}_train", columns, attributes, outputs=kind, data_sources=rows))


def predictions(parties: Parties, kind: str, rows: str = "rows", of: Any = F) -> pd.DataFrame:
    """Of the model that was kept under that name."""
    columns = {"input_ds": {"features": of, "ids": IDS} | ({} if kind == "kmeans" else {"labels": LABEL})}
    attributes = {"receiver": "bob"} | ({} if kind == "kmeans" else {"save_label": True})
    more: dict[str, Any] = {"further_sources": {"input_model": kind}, "outputs": {"bob": f"{kind}_scores"}}
    parties.run(task(f"ml.predict/{kind}_predict", columns, attributes, data_sources=rows, **more))
    return parties.output("bob", f"{kind}_scores")


def test_ss_glm(parties: Parties) -> None:
    train(
        parties,
        "ss_glm",
        {
            "epochs": 3,
            "learning_rate": 0.3,
            "batch_size": 128,
            "link_type": "Logit",
            "label_dist_type": "Bernoulli",
            "optimizer": "SGD",
        },
    )
    found = predictions(parties, "ss_glm")
    assert roc_auc_score(BOB.y, found["pred"]) > 0.95
    assert list(found.user_id) == list(BOB.user_id)


@pytest.mark.parametrize(
    ("kind", "attributes", "least"),
    [
        ("ss_sgd", {"epochs": 3, "learning_rate": 0.3, "batch_size": 128, "reg_type": "logistic"}, 0.95),
        ("ss_xgb", {"num_boost_round": 2, "max_depth": 2}, 0.9),
        ("sgb", {"num_boost_round": 3, "max_depth": 3}, 0.95),
    ],
)  # fmt: skip
def test_training_and_prediction(parties: Parties, kind: str, attributes: dict[str, Any], least: float) -> None:
    train(parties, kind, attributes)
    assert roc_auc_score(BOB.y, predictions(parties, kind)["pred"]) > least


@pytest.mark.parametrize(
    ("kind", "rows", "attributes"),
    [
        ("gnb", "few", {"n_classes": 2}),
        ("knn", "eight", {"n_classes": 2, "n_neighbors": 1}),
        ("gpc", "eight", {"n_classes": 2, "max_iter_predict": 3}),
    ],
)
def test_prediction_of_classes(parties: Parties, kind: str, rows: str, attributes: dict[str, Any]) -> None:
    of = F if kind == "gnb" else {"alice": A[:1], "bob": B[:1]}
    train(parties, kind, attributes, rows, of)
    found = predictions(parties, kind, rows, of)
    assert set(found["pred"]) <= {0, 1}
    assert (found["pred"] == found["y"]).mean() > 0.8


def test_kmeans_puts_rows_into_groups_that_are_apart(parties: Parties) -> None:
    train(parties, "kmeans", {"n_clusters": 2, "max_iter": 5})
    groups = predictions(parties, "kmeans")["pred"]
    assert set(groups) == {0, 1}
    # the first column goes with three others, so it alone tells the groups apart
    assert abs(ALICE[A[0]][groups == 0].mean() - ALICE[A[0]][groups == 1].mean()) > 1


def test_pvalues(parties: Parties) -> None:
    columns = {"input_ds": {"features": F, "labels": LABEL}}
    found = values(parties.run(task("ml.eval/ss_pvalue", columns, further_sources={"input_model": "ss_sgd"})))
    assert len(found) == len(A) + len(B) + 1
    x, y = ALL[[*A, *B]].to_numpy(), BOB.y.to_numpy()
    weights = sgd(x, y, epochs=3, learning_rate=0.3, batch_size=128)
    design = np.column_stack([x, np.ones(len(x))])
    mean = np.clip(0.5 + design @ weights / 4, 0, 1)
    variance = np.linalg.pinv(design.T @ (design * (mean * (1 - mean))[:, None])).diagonal()
    expected = 2 * (1 - norm.cdf(np.abs(weights) / np.sqrt(variance)))
    # What 26 fraction bits leave of a variance of 1e-2: three digits of z
    assert list(found.values()) == pytest.approx(list(expected), rel=0.05, abs=2e-3)


def test_a_copy_of_a_model_predicts_as_the_model(parties: Parties) -> None:
    parties.run(task("io/identity", data_sources="ss_sgd", outputs="copy"))
    columns = {"input_ds": {"features": F, "labels": LABEL, "ids": IDS}}
    more: dict[str, Any] = {"further_sources": {"input_model": "copy"}, "outputs": {"bob": "again"}}
    parties.run(task("ml.predict/ss_sgd_predict", columns, {"receiver": "bob"}, **more))
    difference = parties.output("bob", "again")["pred"] - parties.output("bob", "ss_sgd_scores")["pred"]
    assert difference.abs().max() < 1e-3


def test_a_model_is_packed_for_serving(parties: Parties) -> None:
    answers = parties.run(task("model/model_export", None, {"model_name": "lr"}, data_sources="sgb", outputs="packed"))
    assert answers["bob"]["outputs"] == {"packed": {"kind": "sf.serving.model"}}


def test_rows_are_filtered(parties: Parties) -> None:
    columns = {"input_ds": {"features": F, "select": {"feature": A[0]}}}
    attributes = {"comparator": ">", "bound_value": "0"}
    more: dict[str, Any] = {"outputs": "above", "further_outputs": {"output_ds_else": "below"}}
    parties.run(task("data_filter/condition_filter", columns, attributes, **more))
    assert_equal(parties.output("alice", "above"), ALICE[ALICE[A[0]] > 0][A])
    assert_equal(parties.output("bob", "below"), BOB[ALICE[A[0]] <= 0][B])

    attributes = {"expr": f"{B[0]} > 0 and {B[1]} < 1"}
    more = {"outputs": "above", "further_outputs": {"output_ds_else": "below"}}
    parties.run(task("data_filter/expr_condition_filter", {"input_ds": {"features": F}}, attributes, **more))
    assert_equal(parties.output("alice", "above"), ALICE[(BOB[B[0]] > 0) & (BOB[B[1]] < 1)][A])


def test_columns_are_dropped(parties: Parties) -> None:
    columns = {"input_ds": {"features": F, "select": {"drop_features": [A[0], B[1]]}}}
    parties.run(task("data_filter/feature_filter", columns, outputs="fewer"))
    assert_equal(parties.output("alice", "fewer"), ALICE[A[1:]])
    assert list(parties.output("bob", "fewer")) == [B[0], *B[2:]]


def test_a_row_of_one_empty_cell_stays_a_row(parties: Parties) -> None:
    columns: dict[str, Any] = {"features": {"alice": A, "bob": ["gap", B[0]]}, "select": {"drop_features": [B[0]]}}
    columns = {"input_ds": columns}
    parties.run(task("data_filter/feature_filter", columns, outputs="gaps"))
    assert_equal(parties.output("bob", "gaps"), BOB[["gap"]])
    columns["input_ds"]["features"]["bob"][0] = "words"
    parties.run(task("data_filter/feature_filter", columns, outputs="words"))
    assert_equal(parties.output("bob", "words"), BOB[["words"]])
    # And it lines up with the other party's when it is read
    columns = {"input_ds": {"features": {"alice": A, "bob": ["gap"]}, "select": {"fill_na_features": ["gap"]}}}
    more: dict[str, Any] = {"outputs": "filled", "further_outputs": {"output_rule": "rule"}}
    attributes = {"float_fill_strategy": "constant", "fill_value_float": 7.5}
    parties.run(task("preprocessing/fillna", columns, attributes, data_sources="gaps", **more))
    assert_equal(parties.output("bob", "filled"), BOB[["gap"]].fillna(7.5))


@pytest.mark.parametrize(
    ("attributes", "rows"),
    [
        ({"choose": "random", "random": {"frac": 0.5}}, 284),
        ({"choose": "system", "system": {"frac": 0.25}}, 143),
        (
            {"choose": "stratify", "stratify": {"frac": 0.5, "observe_feature": A[0], "replacements": [False, False],
                                                "quantiles": [0.0], "weights": [0.5, 0.5]}},
            284,
        ),
    ],
)  # fmt: skip
def test_samples_are_the_same_rows_at_both_parties(parties: Parties, attributes: dict[str, Any], rows: int) -> None:
    parties.run(
        task("data_filter/sample", {"input_ds": {"features": F}}, {"sample_algorithm": attributes}, outputs="some")
    )
    found = parties.output("alice", "some").join(parties.output("bob", "some"))
    assert len(found) == rows
    assert len(found.merge(ALL, on=A + B)) == rows


def test_train_test_split(parties: Parties) -> None:
    columns = {"input_ds": {"features": F, "labels": LABEL}}
    more: dict[str, Any] = {"outputs": "train", "further_outputs": {"test_ds": "test"}}
    parties.run(task("data_prep/train_test_split", columns, {"train_size": 0.7, "test_size": 0.3}, **more))
    parts = [parties.output("alice", n).join(parties.output("bob", n)) for n in ("train", "test")]
    # SecretFlow rounds both sizes up, and would have a row in both parts
    assert [len(part) for part in parts] == [399, 170]
    assert len(pd.concat(parts).drop_duplicates().merge(ALL, on=[*A, *B, "y"])) == len(ALL)


def test_a_split_that_leaves_no_row_for_a_part_is_refused(parties: Parties) -> None:
    columns = {"input_ds": {"features": F}}
    more: dict[str, Any] = {"outputs": "train", "further_outputs": {"test_ds": "test"}, "data_sources": "tiny"}
    with pytest.raises(AssertionError, match=r"train_size 0\.99 takes all 16 rows.*or the task type split"):
        parties.run(task("data_prep/train_test_split", columns, {"train_size": 0.99, "test_size": 0.01}, **more))


def test_psi(parties: Parties) -> None:
    columns = {
        "input_ds1": {"ids": {"alice": ["uid"]}, "features": {"alice": [A[0]]}},
        "input_ds2": {"ids": {"bob": ["user_id"]}, "features": {"bob": [B[0]]}},
    }
    attributes = {"input_ds1_keys_duplicated": False, "input_ds2_keys_duplicated": False}
    answers = parties.run(task("data_prep/psi", columns, attributes, data_sources="small", outputs="common"))
    assert list(report(answers)["intersection_count"]) == [30, 30]
    found = parties.output("alice", "common")
    assert_equal(found, SMALL[SMALL.uid.isin(BOB.user_id[120:200])].sort_values("uid"))
    assert list(parties.output("bob", "common")["user_id"]) == list(found.uid)


def test_unbalanced_psi_with_a_cache(parties: Parties) -> None:
    columns = {"input_ds": {"ids": {"alice": ["uid"]}, "features": {"alice": [A[0]]}}}
    parties.run(task("data_prep/unbalance_psi_cache", columns, {"client": "bob"}, outputs="cache"))
    columns = {"client_ds": {"ids": {"bob": ["user_id"]}, "features": {"bob": [B[0]]}}}
    more: dict[str, Any] = {"data_sources": {"bob": "small"}, "further_sources": {"cache": "cache"}}
    more |= {"outputs": {"bob": "found"}}
    parties.run(task("data_prep/unbalance_psi", columns, {"receiver_parties": ["bob"]}, **more))
    assert sorted(parties.output("bob", "found")["user_id"]) == sorted(BOB.user_id[120:200])


def test_union(parties: Parties) -> None:
    columns = {"input_ds1": {"features": F}, "input_ds2": {"features": F}}
    parties.run(task("data_prep/union", columns, further_sources={"input_ds2": "half"}, outputs="both"))
    assert_equal(parties.output("bob", "both"), pd.concat([BOB[B], BOB[B][::2]]))


def test_evaluations(parties: Parties) -> None:
    scores = {"labels": {"bob": ["y", "pred"]}, "select": {"label": "y", "prediction": "pred"}}
    more: dict[str, Any] = {"data_sources": {"bob": "ss_sgd_scores"}}
    scored = parties.output("bob", "ss_sgd_scores")
    found = parties.run(task("ml.eval/biclassification_eval", {"input_ds": scores}, {"bucket_size": 5}, **more))
    assert values(found)["auc"] == pytest.approx(roc_auc_score(scored.y, scored.pred), abs=0.002)
    found = parties.run(
        task(
            "ml.eval/prediction_bias_eval",
            {"input_ds": scores},
            {"bucket_num": 5, "bucket_method": "equal_frequency"},
            **more,
        )
    )
    table = report(found)
    assert list(table["bias"]) == pytest.approx(list((table["avg_prediction"] - table["avg_label"]).abs()), abs=0.01)
    found = parties.run(task("ml.eval/regression_eval", {"input_ds": scores}, {"bucket_size": 5}, **more))
    assert values(found)["mean_squared_errors"] == pytest.approx(((scored.y - scored.pred) ** 2).mean(), rel=0.01)


def test_score_card(parties: Parties) -> None:
    columns = {"input_ds": {"labels": {"bob": ["pred"]}, "select": {"predict_name": "pred"}}}
    attributes = {"positive": 1, "predict_score_name": "score", "scaled_value": 600, "odd_base": 20, "pdo": 20}
    more: dict[str, Any] = {"data_sources": {"bob": "ss_sgd_scores"}, "outputs": {"bob": "card"}}
    parties.run(task("postprocessing/score_card_transformer", columns, attributes, **more))
    found = parties.output("bob", "card").sort_values("pred")
    assert found["score"].is_monotonic_decreasing or found["score"].is_monotonic_increasing
    assert found["score"].nunique() > 10


def test_columns_are_computed(parties: Parties) -> None:
    rule = {"output_rule": "rule"}
    select = {"input_ds": {"features": F, "select": {"f1": A[0], "f2": A[1]}}}
    attributes: dict[str, Any] = {"binary_op": "+", "new_feature_name": "plus"}
    parties.run(task("preprocessing/binary_op", select, attributes, outputs="made", further_outputs=rule))
    assert_equal(parties.output("alice", "made")[["plus"]], (ALICE[A[0]] + ALICE[A[1]]).to_frame("plus"))

    case = {"conds": [{"cond_column": A[0], "op": "GT", "cond_value": {"type": "CONST_FLOAT", "f": 0.0}}],
            "then": {"type": "CONST_INT", "i": 1}}  # fmt: skip
    attributes = {"rules": {"whens": [case], "else_value": {"type": "CONST_INT", "i": 0}, "output_column": "big",
                            "float_epsilon": 1e-6}}  # fmt: skip
    columns = {"input_ds": {"features": F}}
    parties.run(task("preprocessing/case_when", columns, attributes, outputs="made", further_outputs=rule))
    assert list(parties.output("alice", "made")["big"]) == list((ALICE[A[0]] > 0).astype(int))

    attributes = {"sql": f"SELECT {A[0]}, {A[1]} * 2 AS twice, {B[0]}"}
    parties.run(task("preprocessing/sql_processor", columns, attributes, outputs="made", further_outputs=rule))
    assert_equal(parties.output("alice", "made")[["twice"]], (ALICE[A[1]] * 2).to_frame("twice"))

    select = {"input_ds": {"features": {"alice": A, "bob": ["size"]}, "select": {"features": ["size"]}}}
    attributes = {"rules": {"op": "STANDARDIZE"}}
    parties.run(task("preprocessing/feature_calculate", select, attributes, outputs="made", further_outputs=rule))
    assert parties.output("bob", "made")["size"].mean() == pytest.approx(0, abs=1e-6)

    select = {"input_ds": {"features": {"alice": A, "bob": ["y", B[0]]}, "select": {"columns": ["y"]}}}
    attributes = {"astype": {"choose": "string"}}
    parties.run(task("preprocessing/cast", select, attributes, outputs="made", further_outputs=rule))
    assert list(parties.output("bob", "made")["y"]) == list(BOB.y)


def test_empty_values_are_filled(parties: Parties) -> None:
    columns = {"input_ds": {"features": {"alice": A, "bob": ["gap"]}, "select": {"fill_na_features": ["gap"]}}}
    attributes = {"float_fill_strategy": "constant", "fill_value_float": 7.5}
    more: dict[str, Any] = {"outputs": "filled", "further_outputs": {"output_rule": "rule"}}
    parties.run(task("preprocessing/fillna", columns, attributes, **more))
    assert_equal(parties.output("bob", "filled"), BOB[["gap"]].fillna(7.5))


def test_one_hot_and_its_rule_on_other_rows(parties: Parties) -> None:
    columns = {"input_ds": {"features": {"alice": ["group"], "bob": B}, "select": {"features": ["group"]}}}
    more: dict[str, Any] = {"outputs": "hot", "further_outputs": {"output_rule": "hot_rule"}}
    parties.run(task("preprocessing/onehot_encode", columns, None, **more))
    found = parties.output("alice", "hot")
    assert_equal(found, pd.get_dummies(ALICE["group"]).astype(float).set_axis(found.columns, axis=1))
    columns = {"input_ds": {"features": {"alice": ["group"], "bob": B}}}
    more = {"data_sources": "half", "further_sources": {"input_rule": "hot_rule"}, "outputs": "hot_half"}
    parties.run(task("preprocessing/substitution", columns, None, **more))
    assert_equal(parties.output("alice", "hot_half"), found[::2])


def test_binning_and_stability(parties: Parties) -> None:
    more: dict[str, Any] = {"outputs": "bins", "further_outputs": {"output_rule": "bin_rule"}}
    parties.run(task("preprocessing/vert_binning", {"input_ds": {"features": F}}, {"bin_num": 4}, **more))
    assert (parties.output("alice", "bins").nunique() == 4).all()
    more = {"further_sources": {"input_test_ds": "half", "input_rule": "bin_rule"}}
    columns = {"input_base_ds": {"features": F}, "input_test_ds": {"features": F}}
    found = report(parties.run(task("stats/stats_psi", columns, None, **more)))
    assert (found.iloc[:, -1].astype(float) < 0.1).all()  # every second row is much like all


@pytest.mark.parametrize("device", ["spu", "heu"])
def test_woe_binning(parties: Parties, device: str) -> None:
    columns = {"input_ds": {"features": F, "labels": LABEL}}
    attributes = {"bin_num": 4, "secure_device_type": device, "positive_label": "1"}
    more: dict[str, Any] = {"outputs": "woe", "further_outputs": {"output_rule": "woe_rule"}}
    parties.run(task("preprocessing/vert_woe_binning", columns, attributes, **more))
    found = parties.output("alice", "woe")[A[0]]
    bins = pd.qcut(ALICE[A[0]], 4, labels=False)
    good, bad = BOB.y.groupby(bins).sum(), (1 - BOB.y).groupby(bins).sum()
    expected = np.log((good / good.sum()) / (bad / bad.sum()).clip(lower=1e-9))
    assert np.corrcoef(found, bins.map(expected))[0, 1] > 0.98


def test_a_rule_is_read_changed_and_written_back(parties: Parties) -> None:
    answers = parties.run(task("io/read_data", data_sources="bin_rule"))
    read = answers["alice"]["read"]["output_data"]
    assert [found["featureName"] for found in read["variableBins"]] == A + B
    attributes = {"write_data": json.dumps({k: v for k, v in read.items() if k != "@type"})}
    parties.run(task("io/write_data", None, attributes, data_sources="bin_rule", outputs="written"))
    columns = {"input_ds": {"features": F}}
    for rule in ("bin_rule", "written"):
        more: dict[str, Any] = {"further_sources": {"input_rule": rule}, "outputs": f"by_{rule}"}
        parties.run(task("preprocessing/substitution", columns, None, **more))
    assert_equal(parties.output("bob", "by_bin_rule"), parties.output("bob", "by_written"))


def test_statistics(parties: Parties) -> None:
    columns = {"input_ds": {"features": F}}
    found = report(parties.run(task("stats/table_statistics", columns)))
    assert found["mean"].astype(float).tolist() == pytest.approx(ALL[A + B].mean().tolist(), abs=1e-6)
    found = report(parties.run(task("stats/ss_pearsonr", columns)))
    assert np.abs(found.to_numpy(float) - ALL[A + B].corr().to_numpy()).max() < 0.01
    apart = {"alice": [A[1]], "bob": B[:2]}
    vif = values(parties.run(task("stats/ss_vif", {"input_ds": {"features": apart}})))
    expected = np.diag(np.linalg.inv(ALL[[A[1], *B[:2]]].corr().to_numpy()))
    assert list(vif.values()) == pytest.approx(list(expected), rel=0.02)
    columns = {"input_ds": {"features": {"alice": ["group"], "bob": [B[0]]}, "select": {"by": ["group"]}}}
    query = {"column_queries": [{"function": "MEAN", "column_name": B[0]}]}
    found = report(parties.run(task("stats/groupby_statistics", columns, {"aggregation_config": query})))
    assert found[B[0]].astype(float).tolist() == pytest.approx(ALL.groupby("group")[B[0]].mean().tolist(), abs=0.001)


def test_an_expression_sees_no_file(parties: Parties) -> None:
    """After the others: it costs the parties their processes."""
    expression = f"{B[0]} > 0 and (select count(*) from read_text('/etc/passwd')) > 0"
    with pytest.raises(AssertionError, match="PermissionException"):
        parties.run(task("data_filter/expr_condition_filter", {"input_ds": {"features": F}}, {"expr": expression}))


def test_every_component_is_tried_or_said_not_to_run_here() -> None:
    told = {name for name, found in components().items() if found.not_here}
    # the PSI of three parties is run by test_examples, which has three
    assert RAN | told | {"data_prep/psi_tp"} == set(components())
    assert not RAN & told


def assert_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(found) == list(expected)
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True), expected.reset_index(drop=True), check_dtype=False, atol=1e-6
    )
