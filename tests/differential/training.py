"""``lr`` and ``predict`` against the same steps in float64: every prediction, and every metric of them."""

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

from tests.differential.cases import PARTIES, Case, Output, number, the_same_at_all
from tests.differential.linear import sgd


def case_of(columns: Mapping[str, Mapping[str, list[str]]], params: Mapping[str, Any]) -> Case:
    owner = params["label"]["party"]
    task = {
        "task_type": "lr",
        "data_sources": dict.fromkeys(columns, "rows"),
        "outputs": {owner: "made"},
        "algorithm_params": {"ml_params": dict(params)},
    }
    return Case({"rows": columns}, task, tuple(columns), {"spu_config": {}})


@st.composite
def strategy(draw: Any) -> Case:
    parties = PARTIES[: draw(st.sampled_from((2, 2, 2, 2, 3)))]
    rows = draw(st.integers(8, 40))
    seed = draw(st.integers(0, 2**16))
    drawn = np.random.default_rng(seed)
    columns: dict[str, dict[str, list[str]]] = {}
    unit = draw(st.sampled_from((1.0, 1e-3, 1e3)))
    for party in parties:
        count = draw(st.integers(1, 2))
        columns[party] = {
            f"x {i}": [repr(round(v * unit, 6)) for v in drawn.normal(draw(st.sampled_from((0, 5))), 1, rows)]
            for i in range(count)
        }
    owner = draw(st.sampled_from(parties))
    features = {party: list(named) for party, named in columns.items()}
    linear = draw(st.booleans())
    signal = np.array([float(v) / unit for v in columns["alice"]["x 0"]])
    if linear:
        label = signal * draw(st.sampled_from((1.0, 1e5))) + draw(st.sampled_from((0, 1e6)))
        columns[owner]["y"] = [repr(round(v, 3)) for v in label]
    else:
        columns[owner]["y"] = [str(int(v > np.median(signal))) for v in signal + drawn.normal(0, 1, rows)]
        assume(len(set(columns[owner]["y"])) == 2)
    steps: dict[str, Any] = {
        "epochs": draw(st.integers(1, 6)), "batch_size": draw(st.integers(3, 50)),
        "learning_rate": draw(st.sampled_from((0.05, 0.2))),
    }  # fmt: skip
    if draw(st.booleans()):
        steps |= {"penalty": "l2", "l2_norm": draw(st.sampled_from((0.1, 1.0)))}
    return case_of(
        columns,
        {
            "features": features, "label": {"party": owner, "column": "y"}, "training_params": steps,
            "model_type": "linear_regression" if linear else "logistic_regression",
        },
    )  # fmt: skip


def examples() -> list[Case]:
    return []


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    params = case.task["algorithm_params"]["ml_params"]
    owner, steps = params["label"]["party"], params["training_params"]
    linear = params["model_type"] == "linear_regression"
    y = np.array([number(cell) for cell in case.cells(owner, "y")])
    columns = [case.cells(party, name) for party, named in params["features"].items() for name in named]
    x = np.array([[number(cell) for cell in cells] for cells in columns]).T
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    mean, deviation = (y.mean(), y.std()) if linear else (0.0, 1.0)
    batch, l2 = min(steps["batch_size"], len(y)), steps.get("l2_norm", 0.0)
    weights = sgd(
        x, (y - mean) / deviation, epochs=steps["epochs"], learning_rate=steps["learning_rate"], batch_size=batch,
        logistic=not linear, l2=l2,
    )  # fmt: skip
    expected = np.column_stack([x, np.ones(len(y))]) @ weights
    expected = expected * deviation + mean if linear else np.clip(0.5 + expected / 4, 0, 1)
    heading, *lines = csv.reader(io.StringIO(output(owner, "made")))
    assert heading == ["prediction"]
    found = np.array([float(line[0]) for line in lines])
    # Each of up to 84 steps is cut to 26 bits behind the point, in the label's deviations
    assert found == pytest.approx(expected, abs=2e-4 * deviation)
    told = the_same_at_all(answers, "metrics")
    if linear:
        right = {"r2": metrics.r2_score(y, found), "mae": metrics.mean_absolute_error(y, found)}
    else:
        right = {"auc": metrics.roc_auc_score(y, found), "accuracy": metrics.accuracy_score(y, found >= 0.5)}
    for name, value in right.items():
        assert told[name] == pytest.approx(value, rel=1e-9, abs=1e-9)
