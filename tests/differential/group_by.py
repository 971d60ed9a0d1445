"""``group_by`` against pandas: every figure of every group, in the order of the keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from tests.differential.cases import (
    KINDS,
    NUMBERS,
    PARTIES,
    Case,
    Output,
    column,
    is_empty,
    kind_found,
    number,
    the_same_at_all,
)

FUNCTIONS = ("COUNT", "SUM", "MEAN", "MIN", "MAX", "VAR")


def case_of(tables: Mapping[str, Mapping[str, Any]], by: Mapping[str, list[str]], aggregates: Any) -> Case:
    """``aggregates``: party, column and function each. A column's name begins with its kind."""
    told = [{"party": p, "column": c, "function": f} for p, c, f in aggregates]
    task = {
        "task_type": "group_by",
        "data_sources": dict.fromkeys(tables, "rows"),
        "algorithm_params": {"group_by_params": {"by": by, "aggregates": told}},
    }
    return Case({"rows": tables}, task, tuple(tables))


@st.composite
def strategy(draw: Any) -> Case:
    parties, rows = PARTIES[: draw(st.sampled_from((2, 2, 3)))], draw(st.integers(1, 30))
    tables: dict[str, dict[str, Any]] = {}
    for party in parties:
        key, value = draw(st.sampled_from(KINDS)), draw(st.sampled_from(NUMBERS))
        tables[party] = {f"{key}_key": draw(column(rows, key)), f"{value}_value": draw(column(rows, value))}
    owners = draw(st.lists(st.sampled_from(parties), min_size=1, max_size=2, unique=True))
    values = [(party, next(c for c in tables[party] if c.endswith("_value"))) for party in parties]
    aggregates = draw(
        st.lists(st.tuples(st.sampled_from(values), st.sampled_from(FUNCTIONS)), min_size=1, max_size=2, unique=True)
    )
    by = {party: [c for c in tables[party] if c.endswith("_key")] for party in owners}
    return case_of(tables, by, [(*owner, function) for owner, function in aggregates])


def examples() -> list[Case]:
    region = {
        "int_region": ["1", "1", "2", "2", "", "", "3"], "int_age": ["20", "30", "40", "50", "90", "95", "10"],
    }  # fmt: skip
    amount = {"int_amount": ["100", "200", "300", "400", "5000", "6000", "50"]}
    random = np.random.default_rng(7)
    x, one = [repr(v) for v in random.normal(size=300).tolist()], ["1"] * 300
    some = ["" if i % 6 == 0 else str(i) for i in range(72)]
    big = ["1000000039", "1000000038", "1000000001", "1000000002"]
    three = [("bob", "int_amount", f) for f in ("SUM", "COUNT", "MEAN")]
    return [
        case_of({"alice": region, "bob": amount}, {"alice": ["int_region"]}, three),
        case_of({"alice": {"float_x": x}, "bob": {"int_g": one}}, {"bob": ["int_g"]},
                [("alice", "float_x", "SUM"), ("alice", "float_x", "MEAN")]),
        case_of({"alice": {"int_x": some}, "bob": {"text_g": list("ab") * 36}}, {"bob": ["text_g"]},
                [("alice", "int_x", "COUNT")]),
        case_of({"alice": {"int_x": big}, "bob": {"text_g": list("abba")}}, {"bob": ["text_g"]},
                [("alice", "int_x", "MAX"), ("alice", "int_x", "SUM"), ("alice", "int_x", "VAR")]),
        case_of({"alice": {"float_x": ["1e-9", "2e-9", "-4e-9"]}, "bob": {"int_g": ["1", "2", "1"]}},
                {"bob": ["int_g"]}, [("alice", "float_x", "SUM"), ("alice", "float_x", "MEAN")]),
        case_of({"alice": {"bool_x": ["true", "false", "true"]}, "bob": {"int_g": ["1", "NA", "1"]}},
                {"bob": ["int_g"]}, [("alice", "bool_x", "SUM"), ("alice", "bool_x", "MEAN")]),
        *(case_of({"alice": {"float_x": [far, *x[1:60]]}, "bob": {"int_g": [str(i % 3) for i in range(60)]}},
                  {"bob": ["int_g"]}, [("alice", "float_x", "VAR")]) for far in ("1e9", "1e12")),
        case_of({"alice": {"int_x": ["7", "NA", "9"]}, "bob": {"code_g": ["007", "7", "007"]}},
                {"bob": ["code_g"]}, [("alice", "int_x", "MEAN"), ("alice", "int_x", "VAR")]),
    ]  # fmt: skip


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    params = case.task["algorithm_params"]["group_by_params"]
    found = the_same_at_all(answers, "reports")["report"]
    by = [(party, name) for party, named in params["by"].items() for name in named]
    keys = [_keys(case.cells(*entry), entry[1].split("_")[0]) for entry in by]
    ranks = [_ranks(entry) for entry in keys]
    assert len(found) == len(params["aggregates"])
    for report, aggregate in zip(found, params["aggregates"], strict=True):
        party, name, function = aggregate["party"], aggregate["column"], aggregate["function"]
        values = [number(cell) for cell in case.cells(party, name)]
        frame = pd.DataFrame({f"rank{i}": rank for i, rank in enumerate(ranks)} | {"row": range(len(values))})
        expected = []
        for _, rows in frame.groupby([f"rank{i}" for i in range(len(ranks))])["row"]:
            chosen = [values[row] for row in rows]
            expected.append(([key[rows.iloc[0]] for key in keys], chosen))
        [table] = report["tables"]
        assert table["columns"] == [*(f"{p}.{c}" for p, c in by), f"{party}.{name}"]
        assert [row[:-1] for row in table["rows"]] == [key for key, _ in expected]
        for row, (_, chosen) in zip(table["rows"], expected, strict=True):
            _compare(row[-1], chosen, values, function, is_whole=not name.startswith("float"))


def _compare(told: Any, chosen: list[float], column: list[float], function: str, is_whole: bool) -> None:
    clear = getattr(pd.Series(chosen, dtype=float), function.lower())()
    if math.isnan(clear):
        assert told is None
        return
    if function == "COUNT" or (is_whole and function in ("SUM", "MIN", "MAX")):
        assert told == clear  # whole numbers below 2^53, to the last digit
        return
    # On the SPU one step is below 2^-40 of the column's largest number; a sum adds up those of its rows. Of VAR it is
    # below 2^-86 of the square of the largest distance from the median, and each number has one of 2^-54 of that
    # distance, or what float64 has of the number. What the owner computes is closer.
    if function == "VAR":
        far = float(np.nanmax(np.abs(np.array(column) - np.nanmedian(column))))
        step = 2.0**-54 * far + 2.0**-52 * float(np.nanmax(np.abs(column)))
        allowed = 2.0**-86 * far**2 * len(column) + 2 * math.sqrt(clear) * step + step**2 + 1e-9 * clear
        assert abs(told - clear) <= allowed
        return
    assert abs(told - clear) <= 1e-12 * float(np.nanmax(np.abs(column))) * len(column)


def _keys(cells: Sequence[str], kind: str) -> list[Any]:
    """Keys as the result shows them."""
    kind = kind_found(cells, kind)
    if kind == "code" and not any(len(cell) > 1 and cell.startswith("0") for cell in cells):
        kind = "int"
    shown: Any = {"int": int, "float": float, "bool": lambda cell: cell == "true"}.get(kind, str)
    return [None if is_empty(cell, kind) else shown(cell) for cell in cells]


def _ranks(keys: Sequence[Any]) -> list[int]:
    different = sorted({key for key in keys if key is not None})
    return [len(different) if key is None else different.index(key) for key in keys]
