"""``ss_pvalue`` of linear and of generalised linear models, against the z and t statistics of the clear model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from scipy import stats

from tests.differential.cases import Case, Output, the_same_at_all
from tests.differential.linear import sgd
from tests.differential.links import (
    MODELS,
    PARTIES,
    Columns,
    fitted,
    power_of,
    read_columns,
    tables,
    task_of,
    training,
)

SGD = {"epochs": 3, "learning_rate": 0.3, "batch_size": 20, "eps": 0.0}


def case_of(columns: Columns, first: Mapping[str, Any]) -> Case:
    model = {"input_model": dict.fromkeys(PARTIES, "model")}
    return Case(
        {"rows": columns}, task_of("ml.eval/ss_pvalue", columns, further_sources=model), PARTIES, before=[first]
    )


def linear(columns: Columns, regression: str) -> Case:
    kept = {"outputs": dict.fromkeys(PARTIES, "model")}
    return case_of(columns, task_of("ml.train/ss_sgd_train", columns, SGD | {"reg_type": regression}, **kept))


@st.composite
def strategy(draw: Any) -> Case:
    if draw(st.booleans()):
        link, distribution, power = draw(st.sampled_from(MODELS))
        columns = draw(tables(link, distribution))
        assume(fitted(*read_columns(columns), link, power) is not None)
        return case_of(columns, training(link, distribution, power, columns))
    rows, drawn = draw(st.integers(20, 80)), np.random.default_rng(draw(st.integers(0, 2**16)))
    x = drawn.normal(0, 1, (rows, 3)).round(4)
    raw = x @ drawn.uniform(-0.5, 0.5, 3) + drawn.normal(0, 1, rows)
    regression = draw(st.sampled_from(("linear", "logistic")))
    label = (raw > 0).astype(float) if regression == "logistic" else raw.round(3)
    assume(len(set(label)) > 1)
    return linear(_columns(x, label), regression)


def _columns(x: Any, label: Any) -> Columns:
    named = {f"x{i}": [repr(float(v)) for v in x[:, i]] for i in range(3)}
    bob = {"x2": named.pop("x2"), "y": [repr(float(v)) for v in label]}
    return {"alice": named, "bob": bob}


def examples() -> list[Case]:
    """Errors of few rows, and the intercept of a label that SecretFlow scales down."""
    drawn = np.random.default_rng(3)
    x = drawn.normal(0, 1, (14, 3)).round(4)
    few = _columns(x, (x @ [0.4, -0.3, 0.2] + drawn.normal(0, 1, 14)).round(3))
    x = drawn.normal(0, 1, (60, 3)).round(4)
    counts = _columns(x, drawn.poisson(np.exp(x @ [0.1, -0.1, 0.1])))
    return [linear(few, "linear"), case_of(counts, training("Log", "Poisson", 1.0, counts))]


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    params = case.before[0]["algorithm_params"]["component_params"]
    attributes = params["attributes"]
    x, y = read_columns({party: dict(case.tables["rows"][party]) for party in PARTIES})
    rows, free = len(x), len(x) - x.shape[1]
    [report] = the_same_at_all(answers, "reports")["report"]
    names = [f"feature/{name}" for mine in case.tables["rows"].values() for name in mine if name[0] == "x"]
    assert list(report["values"]) == [*names, "bias"]
    if params["component"] == "ml.train/ss_sgd_train":
        is_class = attributes["reg_type"] == "logistic"
        steps = {name: SGD[name] for name in ("epochs", "learning_rate")}
        weights = sgd(x[:, :-1], y, batch_size=min(20, rows), logistic=is_class, **steps)
        mean = np.clip(0.5 + x @ weights / 4, 0, 1) if is_class else x @ weights
        scale = 1.0 if is_class else float(((y - mean) ** 2).sum() / free)
        row = mean * (1 - mean) if is_class else np.ones(rows)
    else:
        found = fitted(x, y, attributes["link_type"], power_of(attributes))
        if found is None:
            return
        weights, mean, row = found
        is_count = attributes["label_dist_type"] == "Poisson"
        scale = 1.0 if is_count else float(((y - mean) ** 2 / mean ** power_of(attributes)).sum() / free)
    variance = scale * np.linalg.inv(x.T @ (x * row[:, None])).diagonal()
    z = np.abs(weights) / np.sqrt(variance)
    t_of = stats.t(free) if attributes.get("reg_type") == "linear" else stats.norm
    for told, wanted in zip(report["values"].values(), z, strict=True):
        # What the fraction bits of the shares leave of a variance, and exp as a number to the 256th: two digits of z
        low, high = (2 * t_of.sf(wanted * factor) for factor in (1.03, 0.97))
        assert low - 5e-3 <= told <= high + 5e-3, (told, wanted, 2 * t_of.sf(wanted))
    assert all(math.isfinite(told) for told in report["values"].values())
