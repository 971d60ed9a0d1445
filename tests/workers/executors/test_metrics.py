"""Metrics are those of scikit-learn and scipy, whatever the order of rows; what has no value is left out, and said."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn import metrics

from tests.parties import Parties, Processes
from workers.contract.results import MOST_BINS
from workers.executors.metrics import binned, classification, regression

#: Sums of up to some hundred float64, in another order.
CLOSE = 1e-12


def test_lift_and_ks_do_not_depend_on_the_order_of_ties() -> None:
    label, score = np.repeat([1, 0], [10, 90]), np.full(100, 0.5)
    for order in (np.arange(100), np.arange(100)[::-1]):
        found, missing = classification(label[order], score[order])
        assert found["lift_10%"] == pytest.approx(1.0, abs=CLOSE)
        assert (found["auc"], found["ks"], missing) == (0.5, 0.0, [])


@pytest.mark.parametrize("seed", range(40))
def test_figures_are_those_of_the_packages(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = int(random.integers(2, 60))
    label = random.integers(0, 2, rows)
    label[:2] = (0, 1)
    score = np.round(random.random(rows), int(random.integers(0, 4)))  # ties, more or fewer
    found, missing = classification(label, score)
    expected = {
        "auc": metrics.roc_auc_score(label, score),
        "ks": ks_2samp(score[label == 1], score[label == 0], method="asymp").statistic,
        "accuracy": metrics.accuracy_score(label, score >= 0.5),
    }
    # Of rows of one score any may come first
    alike = pd.Series(label, dtype=float).groupby(score).transform("mean").to_numpy()
    for share in (0.1, 0.2, 0.5):
        best = np.argsort(-score)[: max(1, round(share * rows))]
        expected[f"lift_{share:.0%}"] = alike[best].mean() / label.mean()
    assert found == pytest.approx(expected, abs=CLOSE)
    assert missing == []


@pytest.mark.parametrize(
    ("label", "score", "words"),
    [
        (
            [-1, 1, 1],
            [0.1, 0.5, 0.9],
            "has values other than 0 and 1; numbers are for a regression; for no and yes write 0 and 1",
        ),
        (
            [1, 2, 2],
            [0.1, 0.5, 0.9],
            "has values other than 0 and 1; numbers are for a regression; for no and yes write 0 and 1",
        ),
        ([1, 1], [0.1, 0.5], "has one class only"),
        ([0, 1], [math.nan, 0.5], "1 of 2 predictions are no finite numbers"),
    ],
)
def test_a_label_that_is_none_says_so(label: list[int], score: list[float], words: str) -> None:
    found, [missing] = classification(label, score)
    assert found == {}
    assert words in missing


def test_accuracy_is_told_of_probabilities_alone() -> None:
    found, [missing] = classification([0, 1, 1], [-3.0, 2.0, 0.7])
    assert "accuracy" not in found
    assert found["auc"] == 1.0
    assert "there is no accuracy: predictions are not between 0 and 1" in missing


@pytest.mark.parametrize(
    ("label", "prediction", "kept", "words"),
    [
        ([2.0], [2.5], {"rmse": 0.5, "mae": 0.5, "bias": 0.5}, "there is no r2: the label has one row"),
        ([2.0, 2.0], [2.0, 3.0], {"rmse": math.sqrt(0.5), "mae": 0.5, "bias": 0.5}, "the same value in all rows"),
        ([1e200, -1e200], [0.0, 0.0], {"mae": 1e200, "bias": 0.0}, "there is no rmse"),
    ],
)
def test_what_a_regression_has_no_value_for_is_left_out(
    label: list[float], prediction: list[float], kept: dict[str, float], words: str
) -> None:
    found, missing = regression(label, prediction)
    assert found == pytest.approx(kept)
    assert words in " ".join(missing)


def test_r_squared_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(5)
    label, prediction = random.normal(size=50), random.normal(size=50)
    found, missing = regression(label, prediction)
    assert found["r2"] == pytest.approx(metrics.r2_score(label, prediction), abs=CLOSE)
    assert missing == []


def test_evaluate_says_why_a_figure_is_missing_and_refuses_a_label_that_is_none(
    processes: Processes, tmp_path: Any
) -> None:
    parties = Parties(processes, tmp_path, ("alice", "bob"))
    parties.table("bob", "scored", pd.DataFrame({"y": [1, -1, 1], "prediction": [0.2, 0.1, 0.9]}))
    task: dict[str, Any] = {"task_type": "evaluate", "data_sources": {"bob": "scored"}}
    params = {"party": "bob", "label": "y"}
    task["algorithm_params"] = {"evaluate_params": params | {"kind": "regression"}}
    parties.table("bob", "one", pd.DataFrame({"y": [1.5], "prediction": [1.0]}))
    answers = parties.run(task | {"data_sources": {"bob": "one"}})
    for answer in answers.values():
        assert answer["metrics"] == {"rmse": 0.5, "mae": 0.5, "bias": -0.5}
        assert "bob: there is no r2: the label has one row" in answer["warnings"][0]
    task["algorithm_params"] = {"evaluate_params": params}
    with pytest.raises(AssertionError, match="'y' of dataset scored at bob: the label has values other than 0 and 1"):
        parties.answers(task)
    parties.close()


def test_predictions_are_kept_whatever_is_wrong_with_the_label(processes: Processes, tmp_path: Any) -> None:
    parties = Parties(processes, tmp_path, ("alice", "bob"), spu_config={})
    x = np.linspace(-1, 1, 40)
    parties.table("alice", "rows", pd.DataFrame({"x": x}))
    parties.table("bob", "rows", pd.DataFrame({"y": (x > 0).astype(int), "sign": np.sign(x).astype(int), "all": 1}))
    both, model = {"alice": "rows", "bob": "rows"}, {"alice": "m", "bob": "m"}
    params = {"features": {"alice": ["x"]}, "label": {"party": "bob", "column": "y"},
              "training_params": {"epochs": 1, "batch_size": 40}}  # fmt: skip
    parties.run({"task_type": "lr", "data_sources": both, "outputs": {"bob": "fitted"},
                 "further_outputs": {"model": model}, "algorithm_params": {"ml_params": params}})  # fmt: skip
    for label, words in (("sign", "has values other than 0 and 1"), ("all", "has one class only")):
        answers = parties.run({
            "task_type": "predict", "data_sources": both, "further_sources": {"model": model},
            "outputs": {"bob": label}, "algorithm_params": {"predict_params": {"receiver": "bob", "label": label}},
        })  # fmt: skip
        assert parties.output("bob", label)["prediction"].tolist() == pytest.approx(
            parties.output("bob", "fitted")["prediction"].tolist(), abs=1e-4
        )
        for answer in answers.values():
            assert answer["metrics"] == {}
            assert f"bob: there are no metrics: the label {words}" in " ".join(answer["warnings"])
    parties.close()


@pytest.mark.parametrize("seed", range(20))
def test_bins_tell_the_curves_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = int(random.integers(20, 2000))
    label = random.integers(0, 2, rows)
    score = np.round(random.random(rows), int(random.integers(1, 5)))
    least = int(random.integers(1, 60))
    bins = binned(label, score, True, least)
    if not bins:
        assert rows < 2 * least or len(np.unique(score)) < rows / least
        return
    assert len(bins) <= MOST_BINS
    assert all(count >= least for _, count, _, _ in bins)
    assert sum(count for _, count, _, _ in bins) == rows
    for index, (threshold, *_) in enumerate(bins[:-1]):
        predicted = score > threshold
        no, yes = metrics.confusion_matrix(label, predicted)[:, 1]
        assert yes == sum(positives for _, _, positives, _ in bins[: index + 1])
        assert yes + no == sum(count for _, count, _, _ in bins[: index + 1])
        assert threshold not in score
    assert bins[-1][0] is None


def test_no_bin_is_smaller_than_said_whatever_the_ties() -> None:
    score = np.repeat([0.9, 0.5, 0.1], [3, 90, 7])
    assert binned(np.arange(100) % 2, score, True, 10) == []
    assert [count for count, *_ in binned(np.arange(100), np.repeat([3.0, 2.0], [10, 90]), False, 10)] == [10, 90]


def test_bins_of_a_regression_tell_its_residuals() -> None:
    prediction = np.arange(100.0)
    bins = binned(prediction + np.where(prediction < 50, 1.0, -3.0), prediction, False, 50)
    assert bins == [[50, 74.5, 71.5, 3.0], [50, 24.5, 25.5, 1.0]]


def test_bins_beyond_float64_are_not_told() -> None:
    assert binned(np.array([1e308, -1e308] * 50), np.linspace(0, 1, 100), False, 10) == []
