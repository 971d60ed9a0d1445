"""Training: all rows count, defaults give a usable model, and one that is of no use says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from tests.differential.linear import sgd
from tests.parties import SMALL_KEYS, Parties, Processes

NAMES = ("alice", "bob")
KEYS = {"lr": "ml_params", "ss_glm": "glm_params", "ss_xgb": "xgb_params", "sgb": "sgb_params"}
MODELS = {"lr": LogisticRegression(max_iter=5000), "ss_xgb": GradientBoostingClassifier(n_estimators=10, max_depth=5)}


@pytest.fixture(scope="module")
def parties(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    found = Parties(processes, tmp_path_factory.mktemp("training"), NAMES, spu_config={}, heu_config=SMALL_KEYS)
    yield found
    found.close()


@pytest.fixture(scope="module")
def wine(parties: Parties) -> Parties:
    """With small models of the wine table."""
    columns = put(parties, public(load_wine))
    parties.run(training(columns))
    parties.run(training(columns, "ss_xgb", training_params={"num_boost_round": 1, "max_depth": 2}))
    return parties


def put(parties: Parties, table: pd.DataFrame, name: str = "rows") -> dict[str, list[str]]:
    """Register a table, its columns spread over the parties; ``y`` is bob's. Party to its features."""
    features = [column for column in table if column != "y"]
    half = len(features) // 2
    columns = {"alice": features[:half], "bob": features[half:]}
    parties.table("alice", name, table[columns["alice"]])
    parties.table("bob", name, table[[*columns["bob"], "y"]])
    return columns


def training(columns: dict[str, list[str]], task_type: str = "lr", rows: str = "rows", **params: Any) -> dict[str, Any]:
    params = {"features": columns, "label": {"party": "bob", "column": "y"}} | params
    return {
        "task_type": task_type,
        "data_sources": dict.fromkeys(NAMES, rows),
        "outputs": {"bob": "predictions"},
        "further_outputs": {"model": dict.fromkeys(NAMES, f"{task_type}_model")},
        "algorithm_params": {KEYS[task_type]: params},
    }


def predicting(receiver: str, task_type: str = "lr", label: str | None = None, rows: str = "rows") -> dict[str, Any]:
    params = {"receiver": receiver} | ({"label": label} if label else {})
    return {
        "task_type": "predict",
        "data_sources": dict.fromkeys(NAMES, rows),
        "further_sources": {"model": dict.fromkeys(NAMES, f"{task_type}_model")},
        "outputs": {receiver: "scored"},
        "algorithm_params": {"predict_params": params},
    }


def noise(rows: int, columns: int, seed: int = 0) -> pd.DataFrame:
    drawn = np.random.default_rng(seed).normal(size=(rows, columns)).round(4)
    return pd.DataFrame(drawn, columns=[f"x{index}" for index in range(columns)])


def public(load: Any) -> pd.DataFrame:
    table = load(as_frame=True).frame.rename(columns={"target": "y"})
    table.columns = [name.replace(" ", "_").replace("/", "_") for name in table.columns]
    if table.y.nunique() < 5:
        table["y"] = (table.y == 0).astype(int)
    return table


@pytest.mark.parametrize("rows", [64, 93, 20])
def test_lr_learns_from_the_rows_behind_the_last_whole_batch(parties: Parties, rows: int) -> None:
    table = noise(rows, 4)
    table["y"] = (table.x0 + table.x3 + noise(rows, 1, 1).x0 > 0).astype(int)
    steps = {"epochs": 20, "batch_size": 32, "learning_rate": 0.3}
    parties.run(training(put(parties, table), standardize=False, training_params=steps))
    features = table.drop(columns="y").to_numpy()
    weights = sgd(features, table.y.to_numpy(), epochs=20, learning_rate=0.3, batch_size=min(32, rows))
    expected = np.clip(0.5 + np.column_stack([features, np.ones(rows)]) @ weights / 4, 0, 1)
    # 60 steps, each cut to 26 bits behind the point
    assert parties.output("bob", "predictions").prediction.to_numpy() == pytest.approx(expected, abs=1e-4)


def test_so_does_linear_regression_with_a_penalty(parties: Parties) -> None:
    table = noise(75, 4)
    table["y"] = (3 * table.x0 - table.x2 + 100).round(4)
    steps = {"epochs": 5, "batch_size": 32, "learning_rate": 0.1, "penalty": "l2", "l2_norm": 2.0}
    parties.run(training(put(parties, table), model_type="linear_regression", training_params=steps))
    features = StandardScaler().fit_transform(table.drop(columns="y"))
    label = (table.y - table.y.mean()) / table.y.std(ddof=0)
    weights = sgd(features, label.to_numpy(), epochs=5, learning_rate=0.1, batch_size=32, logistic=False, l2=2.0)
    expected = np.column_stack([features, np.ones(75)]) @ weights * table.y.std(ddof=0) + table.y.mean()
    assert parties.output("bob", "predictions").prediction.to_numpy() == pytest.approx(expected, abs=1e-3)


def test_so_does_a_generalised_linear_model(parties: Parties) -> None:
    """It has no oracle of its own: the rows behind the last batch are the only ones that tell anything."""
    table = noise(80, 2)
    table["y"] = 0
    table.loc[64:, "y"] = (table.x1[64:] > 0).astype(int)
    table.loc[:63, ["x0", "x1"]] = 0.0
    steps = {"epochs": 10, "batch_size": 64, "learning_rate": 1.0, "optimizer": "SGD", "l2_lambda": 0.0}
    steps |= {"link_type": "Logit", "label_dist_type": "Bernoulli"}
    parties.run(training(put(parties, table), "ss_glm", standardize=False, training_params=steps))
    found = parties.output("bob", "predictions").prediction[64:]
    assert roc_auc_score(table.y[64:], found) > 0.9


@pytest.mark.parametrize(
    ("task_type", "load"),
    [("lr", load_breast_cancer), ("lr", load_wine), ("ss_xgb", load_wine), ("sgb", load_wine)],
)
def test_its_defaults_rank_the_rows_of_public_tables(parties: Parties, load: Any, task_type: str) -> None:
    table = public(load)
    if task_type != "lr":
        # Two of the columns, one of them bob's, and half of the rows: the time of trees goes with their number
        table = table[["alcohol", "flavanoids", "y"]][::2].reset_index(drop=True)
    parties.run(training(put(parties, table), task_type))
    features = StandardScaler().fit_transform(table.drop(columns="y"))
    clear = MODELS["lr" if task_type == "lr" else "ss_xgb"].fit(features, table.y).predict_proba(features)[:, 1]
    found = roc_auc_score(table.y, parties.output("bob", "predictions").prediction)
    assert found > roc_auc_score(table.y, clear) - 0.02


@pytest.mark.parametrize(("task_type", "short"), [("lr", 0.03), ("sgb", 0.1)])
def test_its_defaults_explain_the_diabetes_table(parties: Parties, task_type: str, short: float) -> None:
    """``short``: what R squared may be short of the clear one: five epochs; bins of a tenth of the rows."""
    table = public(load_diabetes)
    if task_type == "sgb":
        table = table[["bmi", "s5", "bp", "s3", "y"]]  # see above
    params = {"model_type": "linear_regression"} if task_type == "lr" else {"training_params": {"objective": "linear"}}
    answers = parties.run(training(put(parties, table), task_type, **params))
    features = table.drop(columns="y")
    trees = GradientBoostingRegressor(n_estimators=10, max_depth=5, random_state=0)
    clear = (LinearRegression() if task_type == "lr" else trees).fit(features, table.y).predict(features)
    found = r2_score(table.y, parties.output("bob", "predictions").prediction)
    assert found > r2_score(table.y, clear) - short
    assert answers["alice"]["metrics"]["r2"] == pytest.approx(found, abs=1e-4)
    assert "warnings" not in answers["alice"] or "line up" in answers["alice"]["warnings"][0]


@pytest.mark.parametrize("receiver", NAMES)
def test_predictions_of_numbers_are_like_the_label_whoever_receives_them(parties: Parties, receiver: str) -> None:
    table = noise(60, 4)
    table["y"] = (1e6 * table.x0 + 5e6).round()
    columns = put(parties, table)
    more = {"model_type": "linear_regression", "training_params": {"epochs": 40}}
    parties.run(training(columns, **more))
    trained = parties.output("bob", "predictions").prediction
    assert r2_score(table.y, trained) > 0.99
    parties.run(predicting(receiver))
    assert parties.output(receiver, "scored").prediction.to_numpy() == pytest.approx(trained.to_numpy(), rel=1e-4)


def test_a_large_label_suits_a_small_field(parties: Parties) -> None:
    table = noise(60, 4)
    table["y"] = (1e6 * table.x0 + 5e6).round()
    small = {"spu_config": {"runtime_config": {"field": "FM64"}}, "heu_config": {"enable_heu": False}}
    task = training(put(parties, table), model_type="linear_regression", training_params={"epochs": 40})
    parties.run(task, **small)
    assert r2_score(table.y, parties.output("bob", "predictions").prediction) > 0.98
    task["algorithm_params"]["ml_params"]["standardize"] = False
    with pytest.raises(AssertionError, match=r"has values too large for this SPU.*standardize does so"):
        parties.run(task, **small)


def test_a_model_without_use_says_so_and_what_to_change(parties: Parties) -> None:
    table = noise(200, 4)
    table["y"] = (table.x0 > 0).astype(int)
    table["x0"], table["x3"] = table.x0 * 1e4 + 8e4, table.x3 * 1e5 + 1e6
    columns = put(parties, table)
    answers = parties.run(training(columns, standardize=False))
    for party in NAMES:
        assert "All predictions are equal" in answers[party]["warnings"][-1]
        assert "Set standardize to true" in answers[party]["warnings"][-1]
    answers = parties.run(predicting("bob", label="y"))
    assert "All predictions are equal" in answers["alice"]["warnings"][-1]
    assert "predictions are equal" not in str(parties.run(training(columns))["alice"]["warnings"])


def test_features_that_fixed_point_turns_into_zeros_are_told(parties: Parties) -> None:
    table = noise(60, 4)
    table["y"] = (table.x0 > 0).astype(int)
    table["x3"] *= 1e-9
    columns = put(parties, table)
    answers = parties.run(training(columns, standardize=False))
    told = [warning for warning in answers["alice"]["warnings"] if "rounded" in warning]
    assert len(told) == 1
    assert told[0].startswith("bob.x3: 100% of the numbers")
    assert "rounded" not in str(parties.run(training(columns))["alice"]["warnings"])


def test_a_training_that_diverges_says_so(parties: Parties) -> None:
    table = noise(60, 4)
    table["y"] = table.x0 * 3
    steps = {"learning_rate": 5.0, "epochs": 20}
    task = training(put(parties, table), model_type="linear_regression", training_params=steps)
    assert "The training diverged" in parties.run(task)["alice"]["warnings"][-1]


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ({"fxp_fraction_bits": 18}, "was made with fxp_fraction_bits 26, this task has 18: set fxp_fraction_bits"),
        ({"fxp_fraction_bits": 40}, "was made with fxp_fraction_bits 26, this task has 40: set fxp_fraction_bits"),
        ({"field": "FM64"}, "was made with field FM128, this task has FM64, fxp_fraction_bits 26, this task has 18"),
        ({"protocol": "CHEETAH"}, "was made with protocol SEMI2K, this task has CHEETAH: set protocol"),
    ],
    ids=str,
)
@pytest.mark.parametrize("task_type", ["lr", "ss_xgb"])
def test_a_model_is_not_used_with_other_settings_than_it_was_made_with(
    wine: Parties, task_type: str, layers: dict[str, Any], said: str
) -> None:
    devices = {"spu_config": {"runtime_config": layers}, "heu_config": {"enable_heu": False}}
    with pytest.raises(AssertionError, match=said):
        wine.run(predicting("bob", task_type), **devices)


def test_a_model_is_not_used_by_its_parties_in_another_order(wine: Parties) -> None:
    with pytest.raises(
        AssertionError, match="was made with parties alice, bob, this task has bob, alice: name the same"
    ):
        wine.answers(predicting("bob"), ["bob", "alice"])
