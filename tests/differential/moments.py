"""``correlation`` and ``vif`` against numpy; columns that follow from others are told as collinear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import Case, Output, column, number, the_same_at_all


def case_of(task_type: str, tables: Mapping[str, Mapping[str, list[str]]]) -> Case:
    columns = {party: list(mine) for party, mine in tables.items()}
    task = {
        "task_type": task_type,
        "data_sources": dict.fromkeys(tables, "rows"),
        "algorithm_params": {"statistics_params": {"columns": columns}},
    }
    return Case({"rows": tables}, task, tuple(tables))


@st.composite
def strategy(draw: Any) -> Case:
    rows = draw(st.integers(6, 40))
    tables: dict[str, dict[str, list[str]]] = {}
    for party in ("alice", "bob"):
        kinds = draw(st.lists(st.sampled_from(("int", "float", "bool")), min_size=1, max_size=2))
        tables[party] = {f"x{i}": draw(column(rows, kind, empty=False)) for i, kind in enumerate(kinds)}
    assume(all(len({number(c) for c in cells}) > 1 for mine in tables.values() for cells in mine.values()))
    return case_of(draw(st.sampled_from(("correlation", "vif"))), tables)


def examples() -> list[Case]:
    a = ["1", "5", "2", "8", "3", "9", "4"]
    b = ["3", "1", "4", "1", "5", "9", "2"]
    both = [str(int(x) + 2 * int(y)) for x, y in zip(a, b, strict=True)]
    return [case_of("vif", {"alice": {"x0": a, "x1": b}, "bob": {"x0": both}}),
            case_of("vif", {"alice": {"x0": a, "x1": b}, "bob": {"x0": a}})]  # fmt: skip


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    [report] = the_same_at_all(answers, "reports")["report"]
    named = [(party, name) for party, mine in case.tables["rows"].items() for name in mine]
    names = [f"{party}.{name}" for party, name in named]
    columns = np.array([[number(cell) for cell in case.cells(*entry)] for entry in named])
    columns -= columns.mean(axis=1, keepdims=True)
    clear = np.corrcoef(columns)
    if case.task["task_type"] == "correlation":
        [table] = report["tables"]
        found = [[float(row[table["columns"].index(name)]) for name in names] for row in table["rows"]]
        # The component's 40 fraction bits, in sums of some rows, which its report has in float32
        assert np.allclose(found, clear, rtol=0, atol=1e-6)
        return
    told = [report["values"][name] for name in names]
    smallest, vectors = np.linalg.eigh(clear)
    if smallest[0] < 1e-9:
        # What takes part in a relation between columns; told where its part is not a small one
        much = [name for name, part in zip(names, np.abs(vectors[:, 0]), strict=True) if part > 0.5]
        assert all(told[names.index(name)] == "collinear" for name in much)
        assert all(value in ("collinear", None) for value in told)
        assert all(name in answers["alice"]["warnings"][-1] for name in much)
        return
    factors = np.linalg.inv(clear).diagonal()
    if factors.max() > 9e3:
        return  # the product may take either for the other
    # An inverse of 40 fraction bits loses as many digits as the largest factor has
    assert np.allclose(told, factors, rtol=1e-8 * factors.max() + 1e-6)
