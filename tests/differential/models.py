"""``ss_sgd``, ``ss_xgb`` and ``sgb`` as components: the predictions of the same steps in the clear, by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.differential import trees
from tests.differential.cases import Case, Output, number
from tests.differential.encodings import read
from tests.differential.linear import sgd
from tests.differential.links import PARTIES, Columns, read_columns, task_of
from tests.parties import SMALL_KEYS

DEVICES = {"spu_config": {}, "heu_config": SMALL_KEYS}
#: As many buckets as there are rows or more, so that each split is possible; all rows and columns for each tree.
WHOLE = {"ss_xgb": {"subsample": 1.0, "colsample_by_tree": 1.0}, "sgb": {"gamma": 0.0}}


def case_of(kind: str, columns: Columns, attributes: Mapping[str, Any], order: list[int], receiver: str) -> Case:
    """``order``: the rows that are predicted, by their places."""
    kept = dict.fromkeys(PARTIES, "model")
    first = task_of(f"ml.train/{kind}_train", columns, attributes, outputs=kept)
    again = {p: {n: [cells[place] for place in order] for n, cells in mine.items()} for p, mine in columns.items()}
    again[receiver]["key"] = [f"k{place}" for place in order]
    task = task_of(
        f"ml.predict/{kind}_predict", again,
        {"receiver": receiver, "pred_name": "found", "save_ids": True, "save_label": receiver == "bob"}, "again",
        further_sources={"input_model": kept}, outputs={receiver: "predicted"},
    )  # fmt: skip
    task["algorithm_params"]["component_params"]["columns"]["input_ds"]["ids"] = {receiver: ["key"]}
    return Case({"rows": columns, "again": again}, task, PARTIES, DEVICES, [first])


@st.composite
def strategy(draw: Any) -> Case:
    kind = draw(st.sampled_from(("ss_sgd", "ss_xgb", "sgb")))
    rows = draw(st.integers(12, 40))
    drawn = np.random.default_rng(draw(st.integers(0, 2**16)))
    x = drawn.normal(0, 1, (rows, 3)).round(draw(st.sampled_from((4, 1))))
    raw = x @ [1.0, -0.7, 0.5] + drawn.normal(0, 0.7, rows)
    yes_no = draw(st.booleans())
    label = (raw > np.median(raw)).astype(float) if yes_no else (raw * draw(st.sampled_from((1.0, 1e3)))).round(3)
    names = [draw(st.permutations(("x0", "x1"))), ["x2"]]
    columns: Columns = {
        party: {name: [repr(float(v)) for v in x[:, int(name[1])]] for name in named}
        for party, named in zip(PARTIES, names, strict=True)
    }
    assume(all(len(set(column)) > 1 for column in x.T))
    columns["bob"]["y"] = [str(int(v)) if yes_no else repr(float(v)) for v in label]
    attributes: dict[str, Any] = {"learning_rate": draw(st.sampled_from((0.1, 0.3)))}
    if kind == "ss_sgd":
        attributes |= {"epochs": draw(st.integers(1, 5)), "batch_size": draw(st.integers(4, rows)), "eps": 0.0}
        attributes |= {"reg_type": "logistic" if yes_no else "linear"}
        attributes |= draw(st.sampled_from(({}, {"penalty": "l2", "l2_norm": 0.5})))
    else:
        attributes |= WHOLE[kind] | {"sketch_eps": 0.02, "objective": "logistic" if yes_no else "linear"}
        attributes |= {"num_boost_round": draw(st.integers(1, 2)), "max_depth": draw(st.integers(1, 3))}
        attributes |= {"reg_lambda": draw(st.sampled_from((0.1, 1.0)))}
        attributes |= {"base_score": draw(st.sampled_from((0.0, 0.5)))}
    order = draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows))
    return case_of(kind, columns, attributes, order, draw(st.sampled_from(PARTIES)))


def examples() -> list[Case]:
    return []


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    params = case.before[0]["algorithm_params"]["component_params"]
    [receiver] = case.task["outputs"]
    rows, keys = read(output(receiver, "predicted")), case.cells(receiver, "key", "again")
    assert [row["key"] for row in rows] == keys
    design, y = read_columns({party: dict(case.tables["rows"][party]) for party in PARTIES})
    clear, tolerance = in_the_clear(params["component"], params["attributes"], design, y)
    if clear is not None:
        found = np.array([number(row["found"]) for row in rows])
        wanted = clear[[int(key[1:]) for key in keys]]
        assert np.allclose(found, wanted, rtol=0, atol=tolerance), np.abs(found - wanted).max()


def in_the_clear(component: str, attributes: Mapping[str, Any], design: Any, y: Any) -> tuple[Any, float]:
    """The predictions of all rows, and how far from them one may be; None where ties leave it open."""
    deviation = max(1.0, float(np.abs(y).max()))
    rate = attributes["learning_rate"]
    if component == "ml.train/ss_sgd_train":
        logistic = attributes["reg_type"] == "logistic"
        weights = sgd(
            design[:, :-1], y, epochs=attributes["epochs"], learning_rate=rate, batch_size=attributes["batch_size"],
            logistic=logistic, l2=attributes["l2_norm"] if attributes.get("penalty") == "l2" else 0.0,
        )  # fmt: skip
        raw = design @ weights
        # Each of up to 50 steps is cut to 26 bits behind the point, times what a label is large
        return (np.clip(0.5 + raw / 4, 0, 1) if logistic else raw), 1e-5 * deviation
    logistic, base = attributes["objective"] == "logistic", attributes["base_score"]
    try:
        raw = trees.boosted(
            design[:, :-1], y, rounds=attributes["num_boost_round"], depth=attributes["max_depth"], base=base,
            learning_rate=rate, reg_lambda=attributes["reg_lambda"], logistic=logistic,
            exact=component == "ml.train/sgb_train",
        )  # fmt: skip
    except trees.Tie:
        return None, 0.0
    # Gradients have 26 bits behind the point, under encryption 20, and up to 40 of them are added up
    return raw, 1e-4 * deviation
