"""``preprocessing/sql_processor`` as a component: each cell of a computed column, as SQL says, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import Case, Output
from tests.differential.components import PARTIES, Table, cells, is_empty
from tests.differential.encodings import keeping_rule, read

Row = dict[str, Any]


def _of_both(operation: Callable[[Any, Any], Any]) -> Callable[[Row], Any]:
    """Empty where one of them is."""
    return lambda row: None if None in (row["a"], row["b"]) else operation(row["a"], row["b"])


def _or(first: bool | None, second: bool | None) -> bool | None:
    return True if first or second else None if None in (first, second) else False


def _above(value: Any, bound: float) -> bool | None:
    return None if value is None else value > bound


#: Expressions of the columns a and b, numbers, and t, a text: in SQL and in Python.
EXPRESSIONS: dict[str, Callable[[Row], Any]] = {
    "a + b": _of_both(lambda a, b: a + b),
    "a - b * 2": _of_both(lambda a, b: a - b * 2),
    "a * b": _of_both(lambda a, b: a * b),
    "a / b": _of_both(lambda a, b: a / b if b else None),
    "a / 2": lambda row: None if row["a"] is None else row["a"] / 2,
    "a % 2": lambda row: None if row["a"] is None else math.fmod(row["a"], 2),
    "abs(a)": lambda row: None if row["a"] is None else abs(row["a"]),
    "coalesce(a, b)": lambda row: row["b"] if row["a"] is None else row["a"],
    "floor(a)": lambda row: None if row["a"] is None else math.floor(row["a"]),
    "CASE WHEN a > 0 THEN 1 ELSE 0 END": lambda row: int(bool(_above(row["a"], 0))),
    "CASE WHEN a > 0 OR b > 0 THEN 1 ELSE 0 END": lambda row: int(bool(_or(_above(row["a"], 0), _above(row["b"], 0)))),
    "CASE WHEN a > 0 AND b > 0 THEN 1 ELSE 0 END": lambda row: int(all((row[n] or 0) > 0 for n in "ab")),
    "CASE WHEN NOT (a > 0 AND b > 0) THEN 1 ELSE 0 END": lambda row: int(
        any(row[n] is not None and row[n] <= 0 for n in "ab")
    ),
    "CASE WHEN a IN (1, 2) THEN 1 ELSE 0 END": lambda row: int(row["a"] in (1, 2)),
    "upper(t)": lambda row: None if row["t"] is None else row["t"].upper(),
    "length(t)": lambda row: None if row["t"] is None else len(row["t"]),
    "t || 'x'": lambda row: None if row["t"] is None else row["t"] + "x",
}


def case_of(tables: Mapping[str, Table], expression: str) -> Case:
    sql = f"SELECT *, {expression} AS made"
    params = {
        "component": "preprocessing/sql_processor",
        "columns": {"input_ds": {"features": {party: list(mine) for party, mine in tables.items()}}},
        "attributes": {"sql": sql},
    }
    return Case({"rows": tables}, keeping_rule(params), PARTIES)


@st.composite
def strategy(draw: Any) -> Case:
    rows = draw(st.integers(2, 12))
    kinds = {"a": draw(st.sampled_from(("int", "float"))), "b": draw(st.sampled_from(("int", "float")))}
    mine = {name: draw(cells(rows, kind, empty=True)) for name, kind in kinds.items()}
    mine["t"] = ["w", *(cell for cell in draw(cells(rows, "text", empty=False))[1:])]
    assume(all(any(found) for found in mine.values()))
    for name, kind in kinds.items():
        assume(kind == "int" or any("." in cell for cell in mine[name]))
        # Products of larger numbers are no whole numbers of 64 bits, which is another matter
        assume(all(abs(float(cell)) < 2**31 for cell in mine[name] if cell))
    tables = {"alice": mine, "bob": {"c": [str(row) for row in range(rows)]}}
    return case_of(tables, draw(st.sampled_from(tuple(EXPRESSIONS))))


def examples() -> list[Case]:
    """Quotients and remainders that were those of whole numbers, or none; and conditions with an empty cell."""
    whole = {"a": ["7", "-7", "3", ""], "b": ["2", "2", "", "1"], "t": ["v", "w", "x", "y"]}
    parts = whole | {"a": ["7.5", "-7.5", "3.25", ""]}
    bob = {"c": ["0", "1", "2", "3"]}
    asked = ("a / b", "a % 2", "CASE WHEN a > 0 OR b > 0 THEN 1 ELSE 0 END")
    return [case_of({"alice": mine, "bob": bob}, expression) for mine in (whole, parts) for expression in asked]


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    sql = case.task["algorithm_params"]["component_params"]["attributes"]["sql"]
    compute = EXPRESSIONS[sql.removeprefix("SELECT *, ").removesuffix(" AS made")]
    mine = case.tables["rows"]["alice"]
    made = read(output("alice", "made"))
    assert [row["c"] for row in read(output("bob", "made"))] == case.cells("bob", "c")
    assert list(made[0]) == [*mine, "made"]
    for index, row in enumerate(made):
        typed = {name: None if is_empty(cell, "int") and name != "t" else cell for name, cell in row.items()}
        before = {name: _typed(mine[name][index], name) for name in mine}
        assert {name: _typed(row[name], name) for name in mine} == before
        expected = compute(before)
        if expected is None or isinstance(expected, str):
            # A quotient by nothing is no number to SQL, and infinite to some
            assert row["made"] == (expected or "") or (" / b" in sql and not math.isfinite(float(row["made"]))), typed
        else:
            # One or two operations in float64
            assert math.isclose(float(row["made"]), expected, rel_tol=1e-12, abs_tol=1e-12), (sql, before, row["made"])


def _typed(cell: str, name: str) -> Any:
    return cell if name == "t" else None if is_empty(cell, "int") else float(cell)
