"""Models trained by two real parties are as good as those of the same kind in the clear, on public tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    TweedieRegressor,
)
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from tests.parties import SMALL_KEYS, Parties, Processes
from workers.computing.context import Context
from workers.contract.documents import TaskConfig
from workers.contract.errors import ConfigError
from workers.devices.spu import SPUConfig
from workers.executors.he_sum import HESumExecutor
from workers.executors.predict import PredictExecutor
from workers.host.sources import Source

CLASSIFIERS: dict[str, tuple[str, dict[str, Any]]] = {
    "lr": ("ml_params", {"epochs": 5, "learning_rate": 0.3, "batch_size": 64}),
    "ss_glm": (
        "glm_params",
        {"epochs": 5, "learning_rate": 0.3, "batch_size": 64, "link_type": "Logit", "label_dist_type": "Bernoulli",
         "optimizer": "SGD"},
    ),
    "ss_xgb": (
        "xgb_params",
        {"num_boost_round": 4, "max_depth": 3, "learning_rate": 0.3, "subsample": 1.0, "colsample_by_tree": 1.0},
    ),
    "sgb": ("sgb_params", {"num_boost_round": 4, "max_depth": 3, "learning_rate": 0.3}),
}  # fmt: skip


def test_auc_is_within_two_hundredths(processes: Processes, tmp_path: Any) -> None:
    data = load_breast_cancer(as_frame=True).frame
    data["target"] = (data["target"] == 0).astype(int)
    data.columns = [name.replace(" ", "_").replace("/", "_") for name in data.columns]
    features = list(data.columns[:6])  # a fifth of them: the time goes with their number
    half = len(features) // 2
    columns = {"alice": features[:half], "bob": features[half:]}
    parties = Parties(processes, tmp_path, ("alice", "bob"), spu_config={}, heu_config=SMALL_KEYS)
    parties.table("alice", "rows", data[columns["alice"]])
    parties.table("bob", "rows", data[[*columns["bob"], "target"]])
    clear = _clear(data[features], data["target"])
    for name, (key, params) in CLASSIFIERS.items():
        answers = parties.run(
            {
                "task_type": name,
                "data_sources": {"alice": "rows", "bob": "rows"},
                "outputs": {"bob": name},
                "algorithm_params": {
                    key: {"features": columns, "label": {"party": "bob", "column": "target"},
                          "training_params": params}
                },
            }
        )  # fmt: skip
        found = roc_auc_score(data["target"], parties.output("bob", name)["prediction"])
        assert found == pytest.approx(clear[name], abs=0.02), name
        assert answers["alice"]["metrics"]["auc"] == pytest.approx(found, abs=1e-6)
    parties.close()


def _clear(x: pd.DataFrame, y: pd.Series[int]) -> dict[str, float]:
    linear = LogisticRegression(max_iter=5000).fit(scaled := StandardScaler().fit_transform(x), y)
    trees = GradientBoostingClassifier(n_estimators=4, max_depth=3, learning_rate=0.3, random_state=0).fit(x, y)
    regression = roc_auc_score(y, linear.predict_proba(scaled)[:, 1])
    boosting = roc_auc_score(y, trees.predict_proba(x)[:, 1])
    return {"lr": regression, "ss_glm": regression, "ss_xgb": boosting, "sgb": boosting}


#: As few steps as come to the clear model: each is a computation on the SPU.
GLM = {"epochs": 12, "learning_rate": 0.2, "batch_size": 64, "link_type": "Log", "optimizer": "SGD"}
TREES = {"max_depth": 3, "learning_rate": 0.5, "objective": "linear", "num_boost_round": 4, "sketch_eps": 0.02}
BOOSTING = GradientBoostingRegressor(n_estimators=4, max_depth=3, learning_rate=0.5, random_state=0, init="zero")


@pytest.mark.parametrize(
    ("task_type", "key", "params", "training_params", "clear"),
    [
        ("lr", "ml_params", {"model_type": "linear_regression"},
         {"epochs": 20, "learning_rate": 0.1, "batch_size": 64}, LinearRegression()),
        ("ss_glm", "glm_params", {}, GLM | {"label_dist_type": "Poisson"}, PoissonRegressor(alpha=0)),
        ("ss_glm", "glm_params", {},
         GLM | {"label_dist_type": "Gamma", "optimizer": "IRLS", "learning_rate": 1.0, "epochs": 5},
         GammaRegressor(alpha=0)),
        ("ss_glm", "glm_params", {}, GLM | {"label_dist_type": "Tweedie", "tweedie_power": 1.5},
         TweedieRegressor(power=1.5, alpha=0, link="log")),
        ("ss_xgb", "xgb_params", {}, TREES | {"subsample": 1.0, "colsample_by_tree": 1.0}, BOOSTING),
        ("sgb", "sgb_params", {}, TREES | {"gamma": 0.0}, BOOSTING),
    ],
)  # fmt: skip
def test_r_squared_is_within_two_hundredths(
    diabetes: Parties, task_type: str, key: str, params: Any, training_params: Any, clear: Any
) -> None:
    data = _diabetes()
    scaled = StandardScaler().fit_transform(data[FEATURES])
    fitted = clear.fit(scaled, data.target)
    answers = diabetes.run(_training(task_type, key, COLUMNS, training_params, **params))
    predictions = diabetes.output("bob", task_type)["prediction"]
    found = r2_score(data.target, predictions)
    assert found == pytest.approx(r2_score(data.target, fitted.predict(scaled)), abs=0.02)
    assert answers["alice"]["metrics"]["r2"] == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize(
    ("task_type", "key", "training_params"),
    [
        ("lr", "ml_params", {"epochs": 20, "learning_rate": 0.1, "batch_size": 64}),
        ("ss_glm", "glm_params", GLM | {"label_dist_type": "Poisson"}),
        ("ss_xgb", "xgb_params", TREES | {"max_depth": 2, "subsample": 1.0, "colsample_by_tree": 1.0}),
        ("sgb", "sgb_params", TREES),
    ],
)
def test_a_party_may_bring_the_label_alone(diabetes: Parties, task_type: str, key: str, training_params: Any) -> None:
    more = {"model_type": "linear_regression"} if task_type == "lr" else {}
    model = {"alice": "alone", "bob": "alone"}
    task = _training(task_type, key, {"alice": FEATURES[:5]}, training_params, **more)
    trained = diabetes.run(task | {"further_outputs": {"model": model}})
    assert trained["bob"]["metrics"]["r2"] > 0.2
    diabetes.run(
        {
            "task_type": "predict",
            "data_sources": {"alice": "rows", "bob": "rows"},
            "further_sources": {"model": model},
            "outputs": {"bob": "again"},
            "algorithm_params": {"predict_params": {"receiver": "bob"}},
        }
    )
    before, after = (diabetes.output("bob", name)["prediction"] for name in (task_type, "again"))
    assert after.to_numpy() == pytest.approx(before.to_numpy(), abs=1e-4)


def test_correlation_and_vif_are_those_of_pandas(diabetes: Parties) -> None:
    columns = {"alice": FEATURES[:3], "bob": FEATURES[5:7]}
    names = [f"{party}.{column}" for party, mine in columns.items() for column in mine]
    clear = _diabetes()[[column for mine in columns.values() for column in mine]].corr().to_numpy()

    def told(task_type: str) -> Any:
        [report] = diabetes.run(
            {
                "task_type": task_type,
                "data_sources": {"alice": "rows", "bob": "rows"},
                "algorithm_params": {"statistics_params": {"columns": columns}},
            }
        )["alice"]["reports"]["report"]
        return report

    [table] = told("correlation")["tables"]
    found = pd.DataFrame(table["rows"], columns=table["columns"])[names].astype(float).to_numpy()
    assert found == pytest.approx(clear, abs=1e-4)
    assert (found.diagonal() == 1).all(), "the SPU's rounding gave 1.00000005"
    assert np.abs(found).max() == 1
    values = told("vif")["values"]
    assert [values[name] for name in names] == pytest.approx(np.linalg.inv(clear).diagonal(), rel=1e-3)


def test_correlation_of_the_largest_smallest_and_closest_numbers_of_float64(diabetes: Parties) -> None:
    few = np.array([0.0, 1.0, 7.0, -3.0, 2.0])
    columns = {"large": few * 1e200, "small": few * 1e-200, "close": (few + 5e15).astype(int)}
    other = np.array([1.0, 2.0, 4.0, 4.0, 5.0])
    diabetes.table("alice", "extremes", pd.DataFrame(columns))
    diabetes.table("bob", "extremes", pd.DataFrame({"x": other}))
    answer = diabetes.run(
        {
            "task_type": "correlation",
            "data_sources": {"alice": "extremes", "bob": "extremes"},
            "algorithm_params": {"statistics_params": {"columns": {"alice": list(columns), "bob": ["x"]}}},
        }
    )["bob"]
    [table] = answer["reports"]["report"][0]["tables"]
    rows = np.array(table["rows"])[:, [table["columns"].index(f"alice.{name}") for name in columns]]
    assert rows[:3] == pytest.approx(np.ones((3, 3)), abs=1e-6)
    assert rows[3] == pytest.approx(np.corrcoef(few, other)[0, 1], abs=1e-6)


FEATURES = list(load_diabetes().feature_names)
COLUMNS = {"alice": FEATURES[:5], "bob": FEATURES[5:]}


def _diabetes() -> pd.DataFrame:
    data: pd.DataFrame = load_diabetes(as_frame=True).frame
    data["target"] /= 100
    return data


@pytest.fixture
def diabetes(processes: Processes, tmp_path: Any) -> Iterator[Parties]:
    parties = Parties(processes, tmp_path, ("alice", "bob"), spu_config={}, heu_config=SMALL_KEYS)
    data = _diabetes()
    parties.table("alice", "rows", data[COLUMNS["alice"]])
    parties.table("bob", "rows", data[[*COLUMNS["bob"], "target"]])
    yield parties
    parties.close()


def _training(task_type: str, key: str, features: Any, training_params: Any, **params: Any) -> dict[str, Any]:
    params |= {"features": features, "label": {"party": "bob", "column": "target"}, "training_params": training_params}
    return {
        "task_type": task_type,
        "data_sources": {"alice": "rows", "bob": "rows"},
        "outputs": {"bob": task_type},
        "algorithm_params": {key: params},
    }


def test_a_model_is_refused_to_an_spu_that_its_shares_mean_nothing_to(diabetes: Parties, tmp_path: Path) -> None:
    training = {"epochs": 1, "batch_size": 64}
    task = _training("lr", "ml_params", COLUMNS, training, model_type="linear_regression")
    trained = diabetes.run(task | {"further_outputs": {"model": {"alice": "m", "bob": "m"}}})
    assert "nothing else vouches for" in trained["alice"]["warnings"][0]
    task = {
        "task_type": "predict",
        "data_sources": {"alice": "rows", "bob": "rows"},
        "further_sources": {"model": {"alice": "m", "bob": "m"}},
        "outputs": {"bob": "scores"},
        "algorithm_params": {"predict_params": {"receiver": "bob"}},
    }
    home = diabetes.directory / "alice"
    sources = {
        "": Source("rows", home / "rows.csv"),
        "model": Source("m", home / "outputs" / "m.kept", "sf.model.ss_sgd"),
    }
    context = Context("alice", ["alice", "bob"], TaskConfig.model_validate(task), sources, tmp_path)
    executor = PredictExecutor(context)
    prepared = executor.validate_params(context.task.algorithm_params)
    executor.adapted(prepared, {"spu_config": SPUConfig()})
    other = SPUConfig.model_validate({"runtime_config": {"protocol": "CHEETAH", "field": "FM64"}})
    with pytest.raises(ConfigError, match="m was made with protocol SEMI2K, this task has CHEETAH, field FM128"):
        executor.adapted(prepared, {"spu_config": other})


@pytest.mark.parametrize(("largest", "lost"), [(2**52 - 1, False), (2**52, True), (-(2**52), True)])
def test_encrypted_sums_lose_no_digits(tmp_path: Path, largest: int, lost: bool) -> None:
    path = tmp_path / "rows.csv"
    pd.DataFrame({"n": [1, largest]}).to_csv(path, index=False)
    task = {
        "task_type": "he_sum",
        "data_sources": {"alice": "rows", "bob": "rows"},
        "algorithm_params": {"he_sum_params": {"columns": {"alice": "n", "bob": "n"}}},
    }
    context = Context("alice", ["alice", "bob"], TaskConfig.model_validate(task), {"": Source("rows", path)}, tmp_path)
    executor = HESumExecutor(context)
    if lost:
        with pytest.raises(ConfigError, match="column 'n' of dataset rows has values so large that sums would lose"):
            executor.validate_params(context.task.algorithm_params)
    else:
        assert list(executor.validate_params(context.task.algorithm_params).values) == [1, largest]


@pytest.mark.parametrize(
    "heu", [SMALL_KEYS, SMALL_KEYS | {"encoding": {"cleartext_type": "DT_F64"}}], ids=["ours", "theirs"]
)
def test_encrypted_sums_are_those_of_float64_or_say_what_is_rounded(
    processes: Processes, tmp_path: Path, heu: dict[str, Any]
) -> None:
    parties = Parties(processes, tmp_path, ("alice", "bob"), heu_config=heu)
    parties.table("alice", "rows", pd.DataFrame({"x": [2e-9, 0.1, -1e12, 2.0**50 + 1, 1e-12]}))
    parties.table("bob", "rows", pd.DataFrame({"x": [0.0, 0.2, 0.3, 1.0, -3e-12]}))
    task = {
        "task_type": "he_sum",
        "data_sources": {"alice": "rows", "bob": "rows"},
        "outputs": {"alice": "sums"},
        "algorithm_params": {"he_sum_params": {"columns": {"alice": "x", "bob": "x"}}},
    }
    answers = parties.run(task)
    parties.close()
    written = parties.directory / "alice" / "outputs" / "sums.csv"
    found = pd.read_csv(written, float_precision="round_trip")["sum"].tolist()
    clear = [2e-9, 0.1 + 0.2, -1e12 + 0.3, 2.0**50 + 2, 1e-12 - 3e-12]
    told = [warning for warning in answers["bob"]["warnings"] if "rounded" in warning]
    if "encoding" in heu:
        # Both numbers are cut off after 26 fraction bits
        assert found == pytest.approx(clear, abs=2 * 2**-26)
        assert found[0] == 0.0
        assert told == [
            f"{column}: {share} of the numbers that are not 0 are rounded by more than 0.1 %, as the computation has "
            "steps of 1e-08: scale the column"
            for column, share in (("alice.x", "40%"), ("bob.x", "25%"))
        ]
    else:
        assert found == clear
        assert told == []
