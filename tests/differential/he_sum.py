"""``he_sum`` against sums in fractions, rounded once."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from tests.differential.cases import NUMBERS, PARTIES, Case, Output, column, number


def case_of(columns: Mapping[str, list[str]]) -> Case:
    task = {
        "task_type": "he_sum",
        "data_sources": dict.fromkeys(columns, "rows"),
        "outputs": {"alice": "sums"},
        "algorithm_params": {"he_sum_params": {"columns": dict.fromkeys(columns, "x")}},
    }
    return Case({"rows": {party: {"x": cells} for party, cells in columns.items()}}, task, tuple(columns))


@st.composite
def strategy(draw: Any) -> Case:
    rows = draw(st.integers(1, 6))
    return case_of({p: draw(column(rows, draw(st.sampled_from(NUMBERS)), empty=False)) for p in PARTIES[:2]})


def examples() -> list[Case]:
    return [case_of({"alice": ["2e-9", "0.1"], "bob": ["0", "0.2"]})]


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    found = [float(line) for line in output("alice", "sums").splitlines()[1:]]
    columns = [[Fraction(number(cell)) for cell in case.cells(party, "x")] for party in case.parties]
    # Not rounded before the end: numbers here have no digits below 2^-100
    assert found == [float(sum(row)) for row in zip(*columns, strict=True)]
