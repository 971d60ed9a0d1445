"""``postprocessing/score_card_transformer`` as a component: each score from its prediction in the clear."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests.differential.cases import Case, Output
from tests.differential.encodings import PARTIES, read


def case_of(predictions: list[str], attributes: Mapping[str, Any]) -> Case:
    columns = {"labels": {"bob": ["pred"]}, "ids": {"bob": ["key"]}, "select": {"predict_name": "pred"}}
    params = {
        "component": "postprocessing/score_card_transformer",
        "columns": {"input_ds": columns},
        "attributes": {"predict_score_name": "score", **attributes},
    }
    task = {
        "task_type": "component",
        "data_sources": {"bob": "rows"},
        "outputs": {"bob": "made"},
        "algorithm_params": {"component_params": params},
    }
    keys = [f"k{row}" for row in range(len(predictions))]
    return Case({"rows": {"bob": {"pred": predictions, "key": keys}}}, task, PARTIES)


@st.composite
def strategy(draw: Any) -> Case:
    cells = st.one_of(st.floats(0, 1).map(repr), st.sampled_from(("0.0", "1.0", "0.5", "1e-300", "0.9999999999999999")))
    attributes = {
        "positive": draw(st.sampled_from((0, 1))), "scaled_value": draw(st.integers(300, 700)),
        "odd_base": draw(st.sampled_from((0.5, 20.0, 50.0))), "pdo": draw(st.sampled_from((1.0, 20.0, 60.5))),
        "min_score": draw(st.integers(0, 290)), "max_score": draw(st.integers(710, 1000)),
    }  # fmt: skip
    return case_of(draw(st.lists(cells, min_size=1, max_size=30)), attributes)


def examples() -> list[Case]:
    return []


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    attributes = case.task["algorithm_params"]["component_params"]["attributes"]
    rows = read(output("bob", "made"))
    assert [row["key"] for row in rows] == case.cells("bob", "key")
    factor = attributes["pdo"] / math.log(2)
    least, most = attributes["min_score"], attributes["max_score"]
    for row, cell in zip(rows, case.cells("bob", "pred"), strict=True):
        share = float(cell)
        assert float(row["pred"]) == share
        odds = share / (1 - share) if share < 1 else math.inf
        logarithm = math.log(odds) if odds else -math.inf
        sign = -1 if attributes["positive"] == 1 else 1
        score = attributes["scaled_value"] + factor * (sign * logarithm - math.log(attributes["odd_base"]))
        # A few operations in float64
        assert math.isclose(float(row["score"]), min(max(score, least), most), rel_tol=1e-9), (
            cell,
            row["score"],
            score,
        )
