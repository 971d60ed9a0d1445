"""``evaluate`` against scikit-learn and scipy; of rows with equal predictions any may come first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import assume
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from sklearn import metrics

from tests.differential.cases import Case, Output, column, number, the_same_at_all


def case_of(label: list[str], prediction: list[str], kind: str = "classification") -> Case:
    task = {
        "task_type": "evaluate",
        "data_sources": {"bob": "rows"},
        "algorithm_params": {"evaluate_params": {"party": "bob", "label": "y", "prediction": "p", "kind": kind}},
    }
    return Case({"rows": {"bob": {"y": label, "p": prediction}}}, task)


@st.composite
def strategy(draw: Any) -> Case:
    rows, kind = draw(st.integers(1, 40)), draw(st.sampled_from(("classification", "regression")))
    if kind == "regression":
        y, p = (draw(column(rows, draw(st.sampled_from(("int", "float"))), empty=False)) for _ in "yp")
        return case_of(y, p, kind)
    digits = draw(st.integers(0, 3))
    score = st.integers(0, 10**digits).map(lambda n: repr(n / 10**digits))
    label = draw(st.lists(st.sampled_from(("0", "1")), min_size=rows, max_size=rows))
    assume(len(set(label)) > 1)
    return case_of(label, draw(st.lists(score, min_size=rows, max_size=rows)))


def examples() -> list[Case]:
    label = ["1"] * 10 + ["0"] * 90
    return [case_of(label, ["0.5"] * 100), case_of(label[::-1], ["0.5"] * 100), case_of(["2.5"], ["1"], "regression")]


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    told = the_same_at_all(answers, "metrics")
    y, p = (np.array([number(cell) for cell in case.cells("bob", name)]) for name in "yp")
    if case.task["algorithm_params"]["evaluate_params"]["kind"] == "regression":
        expected = {
            "rmse": math.sqrt(np.mean((p - y) ** 2)), "mae": np.mean(np.abs(p - y)), "bias": np.mean(p - y),
        }  # fmt: skip
        if len(set(y)) > 1:
            expected["r2"] = metrics.r2_score(y, p)
        else:
            assert "there is no r2" in answers["alice"]["warnings"][0]
    else:
        expected = {
            "auc": metrics.roc_auc_score(y, p),
            "ks": ks_2samp(p[y == 1], p[y == 0]).statistic,
            "accuracy": metrics.accuracy_score(y, p >= 0.5),
        }
        alike = pd.Series(y).groupby(p).transform("mean").to_numpy()
        for share in (0.1, 0.2, 0.5):
            best = np.argsort(-p)[: max(1, round(share * len(y)))]
            expected[f"lift_{share:.0%}"] = alike[best].mean() / y.mean()
    assert set(told) == set(expected)
    largest = max(1.0, float(np.abs(y).max()), float(np.abs(p).max()))
    for name, right in expected.items():
        # float64 operations on numbers up to the largest; r2 is a quotient of squares
        scale = max(1.0, abs(right)) if name in ("r2", "auc", "ks", "accuracy") or "lift" in name else largest
        assert abs(told[name] - right) <= 1e-10 * scale, (name, told[name], right)
