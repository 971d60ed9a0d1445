"""``one_hot`` against a comparison of each cell, as it is written, with each value."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import KINDS, Case, Output, column, is_empty, kind_found

NAMES = ("a b", "a_b", "a.b", "é")


def case_of(tables: Mapping[str, Mapping[str, Any]], kinds: Mapping[str, str], **params: Any) -> Case:
    """``kinds``: column to what its cells are of."""
    columns = {party: list(mine) for party, mine in tables.items()}
    task = {
        "task_type": "one_hot",
        "data_sources": dict.fromkeys(tables, "rows"),
        "outputs": dict.fromkeys(tables, "made"),
        "further_outputs": {"values": dict.fromkeys(tables, "which")},
        "algorithm_params": {"one_hot_params": {"columns": columns} | params},
        "domain": ",".join(f"{name}:{kind}" for name, kind in kinds.items()),
    }
    return Case({"rows": tables}, task, tuple(tables))


@st.composite
def strategy(draw: Any) -> Case:
    rows, kinds = draw(st.integers(1, 30)), {name: draw(st.sampled_from(KINDS)) for name in NAMES[:3]}
    tables = {p: {n: draw(column(rows, kind)) for n, kind in kinds.items()} for p in ("alice", "bob")}
    for mine in tables.values():
        assume(not any(_empty(cells, kinds[name]) == [True] * rows for name, cells in mine.items()))
    drop = draw(st.sampled_from(("no_drop", "first", "mode")))
    different = [len(_values(cells, kinds[name])) for mine in tables.values() for name, cells in mine.items()]
    assume(drop == "no_drop" or min(different) > 1)
    return case_of(tables, kinds, drop=drop,
                   min_frequency=draw(st.sampled_from((0.0, 0.0, 0.2, 0.6))))  # fmt: skip


def examples() -> list[Case]:
    other = {"a.b": ["p", "q", "r", "p"]}
    kinds = {"a b": "text", "a_b": "code", "a.b": "text"}
    return [
        case_of({"alice": {"a b": ["a", "b", "", "NA"], "a_b": ["007", "7", "010", "7"]}, "bob": other}, kinds),
        case_of(
            {"alice": {"a b": ["x", "y", "x", "x"], "a_b": ["7", "", "08", "7"]}, "bob": other}, kinds, drop="mode"
        ),
    ]  # fmt: skip


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    params = case.task["algorithm_params"]["one_hot_params"]
    kinds = dict(entry.split(":") for entry in case.task["domain"].split(","))
    for party in case.parties:
        made = list(csv.DictReader(io.StringIO(output(party, "made"))))
        which = list(csv.DictReader(io.StringIO(output(party, "which"))))
        named = [name for answer in answers.values() for name in answer["columns"][party]]
        assert named == list(made[0]) * len(answers)
        for name, cells in case.tables["rows"][party].items():
            empty = _empty(cells, kinds[name])
            times = Counter(cell for cell, none in zip(cells, empty, strict=True) if not none)
            values = {row["value"]: row["new_column"] for row in which if row["column"] == name}
            assert list(values) == list(times)  # in the order in which they first occur
            new = [column for column in made[0] if column.rpartition("_")[0] == name]
            for row, cell, none in zip(made, cells, empty, strict=True):
                right = "" if none else values[cell]
                assert [row[column] for column in new] == ["1" if column == right else "0" for column in new]
            _check_columns(values, times, new, params, len(cells))


def _check_columns(values: dict[str, str], times: Counter[str], new: list[str], params: Any, rows: int) -> None:
    dropped = [value for value, column in values.items() if not column]
    drop = params.get("drop", "no_drop")
    assert len(dropped) == (0 if drop == "no_drop" else 1)
    if drop == "first":
        assert dropped == [next(iter(times))]
    if drop == "mode":
        assert times[dropped[0]] == max(times.values())
    least = math.ceil(rows * params.get("min_frequency", 0.0) - 1e-9)
    rare = [value for value in values if values[value] and times[value] < least]
    assert {values[value] for value in rare} <= {new[-1]} if new else not rare
    often = [values[value] for value in values if values[value] and times[value] >= least]
    assert len(set(often)) == len(often)
    assert len(new) == len(often) + bool(rare)


def _values(cells: list[str], kind: str) -> set[str]:
    return {cell for cell, none in zip(cells, _empty(cells, kind), strict=True) if not none}


def _empty(cells: list[str], kind: str) -> list[bool]:
    return [is_empty(cell, kind_found(cells, kind)) for cell in cells]
