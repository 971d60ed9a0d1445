"""``predict`` after each task type that trains: predictions of the training rows again, in another order and number.

Each is the one that the training gave for the row, and the training's is that of the same steps in the clear: gradient
descent, Newton's steps or exact greedy trees in float64.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from sklearn import metrics

from tests.differential import glm, trees
from tests.differential.cases import PARTIES, Case, Output, number, the_same_at_all
from tests.differential.linear import sgd
from tests.parties import SMALL_KEYS

KEYS = {"lr": "ml_params", "ss_glm": "glm_params", "ss_xgb": "xgb_params", "sgb": "sgb_params"}
#: The parties that each runs with: with one set of devices a session serves all cases.
DEVICES = {"spu_config": {}, "heu_config": SMALL_KEYS}


def case_of(
    task_type: str, columns: Mapping[str, Mapping[str, list[str]]], params: Mapping[str, Any], order: list[int],
    receiver: str,
) -> Case:  # fmt: skip
    """``order``: the rows of the second table, by their places in the first."""
    parties = tuple(columns)
    model = {"model": dict.fromkeys(parties, "model")}
    training = {
        "task_type": task_type,
        "data_sources": dict.fromkeys(parties, "rows"),
        "outputs": {params["label"]["party"]: "trained"},
        "further_outputs": model,
        "algorithm_params": {KEYS[task_type]: dict(params)},
    }
    again = {p: {n: [cells[place] for place in order] for n, cells in mine.items()} for p, mine in columns.items()}
    again[receiver]["a key"] = [f"k{place}" for place in order]
    said = {"receiver": receiver, "keep_columns": ["a key"]}
    if receiver == params["label"]["party"] and len(set(again[receiver]["y"])) > 1:
        said["label"] = "y"
    task = {
        "task_type": "predict",
        "data_sources": dict.fromkeys(parties, "again"),
        "further_sources": model,
        "outputs": {receiver: "predicted"},
        "algorithm_params": {"predict_params": said},
    }
    return Case({"rows": columns, "again": again}, task, parties, DEVICES, [training])


@st.composite
def strategy(draw: Any) -> Case:
    task_type = draw(st.sampled_from(tuple(KEYS)))
    parties = PARTIES[: draw(st.sampled_from((2, 2, 2, 3)))] if task_type == "lr" else PARTIES[:2]
    rows = draw(st.integers(10, 40))
    drawn = np.random.default_rng(draw(st.integers(0, 2**16)))
    unit, rounded = draw(st.sampled_from((1.0, 1e-3, 1e3))), draw(st.sampled_from((6, 6, 0)))
    columns: dict[str, dict[str, list[str]]] = {}
    for party in parties:
        made = drawn.normal(draw(st.sampled_from((0, 5))), 1, (draw(st.integers(1, 2)), rows)).round(rounded)
        columns[party] = {f"x {i}": [repr(float(v * unit)) for v in values] for i, values in enumerate(made)}
        assume(all(len(set(cells)) > 1 for cells in columns[party].values()))
    owner, receiver = draw(st.sampled_from(parties)), draw(st.sampled_from(parties))
    params: dict[str, Any] = {"features": {p: list(mine) for p, mine in columns.items()}}
    signal = np.array([float(v) / unit for v in columns["alice"]["x 0"]])
    signal = (signal - signal.mean()) / signal.std() + drawn.normal(0, 1, rows)
    yes_no = draw(st.booleans())
    steps: dict[str, Any] = {"learning_rate": draw(st.sampled_from((0.1, 0.3)))}
    if task_type in ("ss_xgb", "sgb"):
        # As many buckets as there are rows or more, so that each split is possible
        steps |= {"num_boost_round": draw(st.integers(1, 2)), "max_depth": draw(st.integers(1, 3)), "sketch_eps": 0.02}
        steps |= {"objective": "logistic" if yes_no else "linear", "reg_lambda": draw(st.sampled_from((0.1, 1.0)))}
        steps |= {"gamma": 0.0} if task_type == "sgb" else {}
    else:
        steps |= {"epochs": draw(st.integers(1, 5)), "batch_size": draw(st.integers(3, 50))}
    label = signal * draw(st.sampled_from((1.0, 1e4))) + draw(st.sampled_from((0, 1e5)))
    if task_type == "lr":
        params["model_type"] = "logistic_regression" if yes_no else "linear_regression"
    if task_type == "ss_glm":
        yes_no = draw(st.booleans())
        steps |= {"link_type": "Logit", "label_dist_type": "Bernoulli"} if yes_no else glm.COUNTS
        steps |= {"optimizer": draw(st.sampled_from(("SGD", "IRLS"))), "l2_lambda": draw(st.sampled_from((0.1, 1.0)))}
        label = np.clip(np.round(np.exp(signal / 2)), 0, 8)
    params |= {"label": {"party": owner, "column": "y"}, "training_params": steps}
    if yes_no:
        columns[owner]["y"] = [str(int(v > np.median(signal))) for v in signal]
    else:
        columns[owner]["y"] = [repr(round(float(v), 3)) for v in label]
    assume(len(set(columns[owner]["y"])) > 1)
    order = draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows))
    return case_of(task_type, columns, params, order, receiver)


def examples() -> list[Case]:
    return []


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    [training], asked = case.before, case.task["algorithm_params"]["predict_params"]
    params = training["algorithm_params"][KEYS[training["task_type"]]]
    owner = params["label"]["party"]
    y = np.array([number(cell) for cell in case.cells(owner, "y")])
    trained = _predictions(output(owner, "trained"))
    assert len(trained["prediction"]) == len(y)
    learned = np.array([float(cell) for cell in trained["prediction"]])
    told = _predictions(output(asked["receiver"], "predicted"))
    keys = case.cells(asked["receiver"], "a key", "again")
    assert told["a key"] == keys
    order = [int(key[1:]) for key in keys]
    found = np.array([float(cell) for cell in told["prediction"]])
    # The same weights on the same rows; shares are cut to 26 bits behind the point anew each time: 2e-8 of the label's
    # deviation for each of a few products
    size = max(1.0, float(np.abs(learned).max())) if training["task_type"] == "ss_glm" else _deviation(y)
    assert found == pytest.approx(learned[order], abs=1e-6 * size)
    expected, tolerance = in_the_clear(training["task_type"], params, case, y)
    if expected is not None:
        assert learned == pytest.approx(expected, abs=tolerance)
    if "label" in asked:
        again = y[order]
        metric = the_same_at_all(answers, "metrics")
        if set(again) <= {0.0, 1.0}:
            assert metric["auc"] == pytest.approx(metrics.roc_auc_score(again, found), abs=1e-9)
        else:
            assert metric["mae"] == pytest.approx(metrics.mean_absolute_error(again, found), rel=1e-9)


def _predictions(text: str) -> dict[str, list[str]]:
    heading, *lines = csv.reader(io.StringIO(text))
    return {name: [line[index] for line in lines] for index, name in enumerate(heading)}


def _deviation(y: Any) -> float:
    return max(1.0, float(y.std()))


def in_the_clear(task_type: str, params: Mapping[str, Any], case: Case, y: Any) -> tuple[Any, float]:
    """The predictions of the training rows, and how far from them a figure may be; None where ties leave it open."""
    steps = params["training_params"]
    columns = [case.cells(party, name) for party, named in params["features"].items() for name in named]
    x = np.array([[number(cell) for cell in cells] for cells in columns]).T
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    batch = min(steps.get("batch_size", len(y)), len(y))
    if task_type == "ss_glm":
        return glm.fitted(x, y, steps | {"batch_size": batch})
    is_class = set(y) == {0.0, 1.0}
    mean, deviation = (0.0, 1.0) if is_class else (y.mean(), y.std())
    label = (y - mean) / deviation
    if task_type == "lr":
        weights = sgd(x, label, epochs=steps["epochs"], learning_rate=steps["learning_rate"], batch_size=batch,
                      logistic=is_class)  # fmt: skip
        raw = np.column_stack([x, np.ones(len(y))]) @ weights
        # Each of up to 70 steps is cut to 26 bits behind the point, in the label's deviations
        return (np.clip(0.5 + raw / 4, 0, 1) if is_class else raw * deviation + mean), 1e-5 * deviation
    try:
        raw = trees.boosted(
            x, label, rounds=steps["num_boost_round"], depth=steps["max_depth"], logistic=is_class,
            learning_rate=steps["learning_rate"], reg_lambda=steps["reg_lambda"], exact=task_type == "sgb",
        )  # fmt: skip
    except trees.Tie:
        return None, 0.0
    # Gradients have 26 bits behind the point, under encryption 20, and up to 40 of them are added up
    return raw * deviation + mean, 1e-4 * deviation
