"""``ss_glm`` as components, with each link and distribution: the predictions of Newton's steps in the clear, by ids.

Newton's steps are taken until they lead no further, so that the figures are those of any package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import Case, Output, number
from tests.differential.encodings import PARTIES, read

#: Link, distribution and the power of the mean that the variance is.
MODELS = (
    ("Log", "Gamma", 2.0), ("Log", "Tweedie", 1.5), ("Log", "Poisson", 1.0), ("Identity", "Tweedie", 0.0),
    ("Identity", "Gamma", 2.0), ("Identity", "Poisson", 1.0), ("Reciprocal", "Gamma", 2.0),
)  # fmt: skip
#: Newton's steps.
STEPS = 8
Columns = dict[str, dict[str, list[str]]]


def training(link: str, distribution: str, power: float, columns: Columns, penalty: float = 0.0) -> dict[str, Any]:
    attributes: dict[str, Any] = {"link_type": link, "label_dist_type": distribution}
    attributes |= {"tweedie_power": power if distribution == "Tweedie" else 1.0}
    attributes |= {"optimizer": "IRLS", "epochs": STEPS, "l2_lambda": penalty}
    return task_of("ml.train/ss_glm_train", columns, attributes, outputs=dict.fromkeys(PARTIES, "model"))


def task_of(component: str, columns: Columns, attributes: Any = None, dataset: str = "rows", **more: Any) -> Any:
    """Of a component that reads features of both, bob's label ``y`` and ids ``key``."""
    features = {party: [name for name in mine if name.startswith("x")] for party, mine in columns.items()}
    table: dict[str, Any] = {"features": features, "labels": {"bob": ["y"]}}
    if "key" in columns["bob"]:
        table["ids"] = {"bob": ["key"]}
    params = {"component": component, "columns": {"input_ds": table}} | (
        {"attributes": attributes} if attributes else {}
    )
    return {
        "task_type": "component",
        "data_sources": dict.fromkeys(PARTIES, dataset),
        "algorithm_params": {"component_params": params},
    } | more


def case_of(link: str, distribution: str, power: float, columns: Columns, order: list[int], penalty: float = 0) -> Case:
    """``order``: the rows that are predicted, by their places."""
    again = {p: {n: [cells[place] for place in order] for n, cells in mine.items()} for p, mine in columns.items()}
    again["bob"]["key"] = [f"k{place}" for place in order]
    task = task_of(
        "ml.predict/ss_glm_predict", again, {"receiver": "bob", "save_label": True}, "again",
        further_sources={"input_model": dict.fromkeys(PARTIES, "model")}, outputs={"bob": "predicted"},
    )  # fmt: skip
    first = training(link, distribution, power, columns, penalty)
    return Case({"rows": columns, "again": again}, task, PARTIES, before=[first])


@st.composite
def tables(draw: Any, link: str, distribution: str) -> Columns:
    """Two columns of alice and one of bob, and a label whose mean goes with them."""
    rows = draw(st.integers(40, 120))
    drawn = np.random.default_rng(draw(st.integers(0, 2**16)))
    x = drawn.normal(0, 1, (rows, 3))
    raw = x @ drawn.uniform(-0.25, 0.25, 3)
    mean = {"Log": np.exp(raw + 0.5), "Identity": 2 + raw, "Reciprocal": 1 / np.clip(1 + raw, 0.3, None)}[link]
    unit = draw(st.sampled_from((1.0, 1.0, 50.0, 1e4)))
    if distribution == "Poisson":
        label = np.array(drawn.poisson(np.clip(mean, 0.1, None) * draw(st.sampled_from((1.0, 10.0)))), float)
    else:
        label = np.clip(mean, 0.1, None) * drawn.gamma(8, 1 / 8, rows) * unit
    assume(label.mean() > 0.5)
    return {
        "alice": {f"x{i}": [repr(round(float(v), 4)) for v in x[:, i]] for i in range(2)},
        "bob": {"x2": [repr(round(float(v), 4)) for v in x[:, 2]], "y": [repr(round(float(v), 3)) for v in label]},
    }


@st.composite
def strategy(draw: Any) -> Case:
    link, distribution, power = draw(st.sampled_from(MODELS))
    columns = draw(tables(link, distribution))
    assume(fitted(*read_columns(columns), link, power) is not None)
    rows = len(columns["bob"]["y"])
    order = draw(st.lists(st.integers(0, rows - 1), min_size=2, max_size=rows))
    return case_of(link, distribution, power, columns, order, draw(st.sampled_from((0.0, 0.0, 2.0))))


def examples() -> list[Case]:
    """A penalty, which Newton's steps took twice."""
    drawn = np.random.default_rng(5)
    x = drawn.normal(0, 1, (40, 3)).round(4)
    named = {f"x{i}": [repr(float(v)) for v in x[:, i]] for i in range(3)}
    label = np.clip(2 + x @ [0.6, -0.5, 0.4], 0.2, None).round(3)
    bob = {"x2": named.pop("x2"), "y": [repr(float(v)) for v in label]}
    return [case_of("Identity", "Tweedie", 0.0, {"alice": named, "bob": bob}, [3, 1, 0, 2, 39], 8.0)]


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    attributes = case.before[0]["algorithm_params"]["component_params"]["attributes"]
    link, power = attributes["link_type"], power_of(attributes)
    x, y = read_columns({party: dict(case.tables["rows"][party]) for party in PARTIES})
    scale = max(1.0, float(y.max()) / 2)  # by which SecretFlow divides the label first: the penalty is of that one
    found = fitted(x, y / scale, link, power, attributes["l2_lambda"])
    if found is None:
        return
    rows, keys = read(output("bob", "predicted")), case.cells("bob", "key", "again")
    assert [row["key"] for row in rows] == keys
    assert [float(row["y"]) for row in rows] == [number(cell) for cell in case.cells("bob", "y", "again")]
    clear = found[1][[int(key[1:]) for key in keys]] * scale
    # exp is a number to the 256th: off by one in a hundred at exponents of 2. Shares have 40 bits behind the point
    assert np.allclose(
        [float(row["pred"]) for row in rows], clear, rtol=0.02 if link == "Log" else 1e-3, atol=1e-3 * scale
    )


def power_of(attributes: Mapping[str, Any]) -> float:
    return {"Poisson": 1.0, "Gamma": 2.0}.get(attributes["label_dist_type"], attributes["tweedie_power"])


def read_columns(columns: Mapping[str, Mapping[str, list[str]]]) -> tuple[Any, Any]:
    """The design, ones last, and the label."""
    found = [[number(cell) for cell in cells] for mine in columns.values() for n, cells in mine.items() if n[0] == "x"]
    x = np.array(found).T
    return np.column_stack([x, np.ones(len(x))]), np.array([number(cell) for cell in columns["bob"]["y"]])


def fitted(x: Any, y: Any, link: str, power: float, penalty: float = 0.0) -> Any:
    """Weights, means and the weight of each row; None where Newton's steps lead out of what a mean can be.

    ``penalty``: times half of the weights' squares, the intercept's left out.
    """
    mean = (y + y.mean()) / 2
    eta = {"Log": np.log, "Identity": lambda m: m, "Reciprocal": lambda m: 1 / m}[link](mean)
    ridge = np.diag([*[penalty] * (x.shape[1] - 1), 0.0])
    for _ in range(40):
        slope = {"Log": 1 / mean, "Identity": np.ones(len(y)), "Reciprocal": -1 / mean**2}[link]
        row = 1 / (mean**power * slope**2)
        target = eta + (y - mean) * slope
        weights = np.linalg.solve(x.T @ (x * row[:, None]) + ridge, x.T @ (row * target))
        eta = x @ weights
        if link != "Log" and eta.min() <= 0.1 * np.median(eta):
            return None
        before, mean = mean, {"Log": np.exp, "Identity": lambda e: e, "Reciprocal": lambda e: 1 / e}[link](eta)
    return (weights, mean, row) if np.allclose(before, mean, rtol=1e-6) else None
