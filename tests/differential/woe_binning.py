"""``woe_binning`` against counts of the label in the clear."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import NUMBERS, Case, Output, column, number, the_same_at_all
from workers.executors.bins import cut_points


def case_of(alice: list[str], bob: list[str], label: list[str], bins: int = 10) -> Case:
    task = {
        "task_type": "woe_binning",
        "data_sources": {"alice": "rows", "bob": "rows"},
        "outputs": {"alice": "made", "bob": "made"},
        "algorithm_params": {
            "woe_params": {
                "columns": {"alice": ["x"], "bob": ["x"]}, "label": {"party": "bob", "column": "y"}, "bins": bins,
            }
        },
    }  # fmt: skip
    return Case({"rows": {"alice": {"x": alice}, "bob": {"x": bob, "y": label}}}, task)


@st.composite
def strategy(draw: Any) -> Case:
    rows = draw(st.integers(2, 40))
    x = [draw(column(rows, draw(st.sampled_from(NUMBERS)), empty=False)) for _ in "ab"]
    label = draw(st.lists(st.sampled_from(("0", "1")), min_size=rows, max_size=rows))
    assume(all(len({number(cell) for cell in cells}) > 1 for cells in (*x, label)))
    return case_of(x[0], x[1], label, draw(st.integers(2, 12)))


def examples() -> list[Case]:
    rare = ["1" if i % 20 == 0 else "0" for i in range(100)]
    return [case_of(rare, ["true" if i % 33 else "false" for i in range(100)], ["1", "0", "0", "1", "0"] * 20)]


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    bins = case.task["algorithm_params"]["woe_params"]["bins"]
    label = np.array([number(cell) for cell in case.cells("bob", "y")])
    values = the_same_at_all(answers, "information_values")
    for party in case.parties:
        x = np.array([number(cell) for cell in case.cells(party, "x")])
        place = np.searchsorted(cut_points(x, bins, "quantile"), x, side="left")
        weights, information = np.zeros(len(x)), 0.0
        for one in np.unique(place):
            yes, no = (float(np.sum(label[place == one] == kind)) for kind in (1, 0))
            added = 0.0 if yes and no else 0.5
            yes, no = (yes + added) / np.sum(label == 1), (no + added) / np.sum(label == 0)
            weights[place == one] = math.log(yes / no)
            information += (yes - no) * math.log(yes / no)
        made = [float(row["x"]) for row in csv.DictReader(io.StringIO(output(party, "made")))]
        # SecretFlow keeps weights in float32
        assert np.allclose(made, weights, rtol=1e-6, atol=1e-7)
        assert math.isclose(values[f"{party}.x"], information, rel_tol=1e-9, abs_tol=1e-12)
