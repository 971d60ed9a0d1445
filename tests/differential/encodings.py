"""SecretFlow's ``onehot_encode`` as a component, and its rule on another table by ``substitution``, in the clear.

Each new column is compared with what the report says that it stands for, so that columns which have each other's names
do not pass.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import KINDS, Case, Output, column, is_empty, kind_found, the_same_at_all

PARTIES = ("alice", "bob")
DROPS = ("no_drop", "first", "mode")
#: SecretFlow takes numbers that differ by less for one; such columns are refused.
APART = 1e-7
Tables = Mapping[str, Mapping[str, Mapping[str, list[str]]]]


def keeping_rule(params: Mapping[str, Any]) -> dict[str, Any]:
    """The task of a component that keeps a table and a rule."""
    return {
        "task_type": "component",
        "data_sources": dict.fromkeys(PARTIES, "rows"),
        "outputs": dict.fromkeys(PARTIES, "made"),
        "further_outputs": {"output_rule": dict.fromkeys(PARTIES, "rule")},
        "algorithm_params": {"component_params": params},
    }


def ruled(tables: Tables, params: Mapping[str, Any], features: Mapping[str, list[str]]) -> Case:
    """A component that keeps a rule; with a table ``other`` the rule is done to it."""
    first = keeping_rule(params)
    if "other" not in tables:
        return Case(tables, first, PARTIES)
    substitution = {"component": "preprocessing/substitution", "columns": {"input_ds": {"features": features}}}
    task = {
        "task_type": "component",
        "data_sources": dict.fromkeys(PARTIES, "other"),
        "further_sources": {"input_rule": dict.fromkeys(PARTIES, "rule")},
        "outputs": dict.fromkeys(PARTIES, "by_rule"),
        "algorithm_params": {"component_params": substitution},
    }
    return Case(tables, task, PARTIES, before=[first])


def case_of(tables: Tables, drop: str = "no_drop", least: float = 0.0) -> Case:
    """A column's name begins with its kind; ``key`` is left as it is. With a table ``other`` the rule is done to it."""
    names = {party: list(mine) for party, mine in tables["rows"].items()}
    chosen = [name for mine in names.values() for name in mine if not name.startswith("key")]
    params = {
        "component": "preprocessing/onehot_encode",
        "columns": {"input_ds": {"features": names, "select": {"features": chosen}}},
        "attributes": {"drop": {"choose": drop}, "min_frequency": least},
    }
    return ruled(tables, params, names)


@st.composite
def strategy(draw: Any) -> Case:
    sizes = {"rows": draw(st.integers(2, 30))}
    if draw(st.booleans()):
        sizes["other"] = draw(st.integers(1, 20))
    tables: dict[str, dict[str, dict[str, list[str]]]] = {dataset: {} for dataset in sizes}
    for party in PARTIES:
        kind = draw(st.sampled_from(KINDS))
        name = f"{kind}_{party[0]}"
        for dataset, rows in sizes.items():
            cells = draw(column(rows, kind))
            if dataset == "other":
                near = draw(st.lists(st.sampled_from(tables["rows"][party][name]), min_size=rows, max_size=rows))
                mixed = draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
                cells = [a if m else b for a, b, m in zip(near, cells, mixed, strict=True)]
            tables[dataset][party] = {name: cells, f"key_{party[0]}": [f"{party[0]}{row}" for row in range(rows)]}
            assume(kind_found(cells, kind) == kind and told_apart(kind, cells))
            # Digits alone are taken for numbers, between signs for none too
            assume(kind not in ("text", "code") or is_text(cells, kind))
        assume(told_apart(kind, [cell for mine in tables.values() for cell in mine[party][name]]))
    return case_of(tables, draw(st.sampled_from(DROPS)), draw(st.sampled_from((0.0, 0.0, 0.3))))


def is_text(cells: list[str], kind: str) -> bool:
    found = [cell for cell in cells if not is_empty(cell, kind)]
    if kind == "code":
        return any(len(cell) > 1 and cell.startswith("0") for cell in found)
    return any(not is_empty(cell, "int") and cell != "007x"[:3] for cell in found)


def told_apart(kind: str, cells: list[str]) -> bool:
    if kind != "float":
        return True
    found = sorted({float(cell) for cell in cells if not is_empty(cell, kind)})
    return all(second - first > 2 * APART for first, second in pairwise(found))


def examples() -> list[Case]:
    key = {"key_b": ["b0", "b1", "b2"]}
    words = {"alice": {"text_a": ["x", "y", "x"], "key_a": ["a0", "a1", "a2"]}, "bob": {"int_b": ["0", "1", "0"]} | key}
    return [case_of({"rows": words}, drop) for drop in DROPS]


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    first = case.before[0] if case.before else case.task
    attributes = first["algorithm_params"]["component_params"]["attributes"]
    values: dict[str, str] = {}
    if not case.before:
        values = the_same_at_all(answers, "reports")["report"][0].get("values", {})
    for party in PARTIES:
        cells_of = case.tables["rows"][party]
        made = read(output(party, "made"))
        [name] = [name for name in cells_of if not name.startswith("key")]
        key = f"key_{party[0]}"
        assert [row[key] for row in made] == cells_of[key]
        assert name not in made[0]
        new = [column for column in made[0] if column != key]
        assert new == [f"{name}_{index}" for index in range(len(new))]
        kind = name.partition("_")[0]
        stands_for = standing_for(kind, cells_of[name], new, made)
        check_chosen(kind, cells_of[name], stands_for, attributes)
        if values:
            for column_, meant in stands_for.items():
                # Texts have commas of their own
                assert sorted(values[column_].split(",")) == sorted(",".join(map(str, meant)).split(","))
        if case.before:
            other = case.tables["other"][party]
            again = read(output(party, "by_rule"))
            assert list(again[0]) == list(made[0])
            assert [row[key] for row in again] == other[key]
            for row, cell in zip(again, other[name], strict=True):
                check_row(kind, row, cell, stands_for)


def typed(cell: str, kind: str) -> Any:
    """None of an empty cell."""
    if is_empty(cell, kind):
        return None
    if kind == "bool":
        return cell == "true"
    return int(cell) if kind == "int" else float(cell) if kind == "float" else cell


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def standing_for(kind: str, cells: list[str], new: list[str], made: list[dict[str, str]]) -> dict[str, list[Any]]:
    """Each new column's values: those whose rows have 1 there, in every one of their rows and no others."""
    found: dict[str, list[Any]] = {column: [] for column in new}
    for value in dict.fromkeys(typed(cell, kind) for cell in cells):
        if value is not None:
            row = next(row for row, cell in zip(made, cells, strict=True) if typed(cell, kind) == value)
            for column_ in new:
                if float(row[column_]):
                    found[column_].append(value)
    for row, cell in zip(made, cells, strict=True):
        check_row(kind, row, cell, found)
    return found


def check_row(kind: str, row: Mapping[str, str], cell: str, stands_for: Mapping[str, list[Any]]) -> None:
    value = typed(cell, kind)
    for column_, meant in stands_for.items():
        # The result's warnings say that an empty cell is empty in all new columns
        assert row[column_] == "" if value is None else float(row[column_]) == float(value in meant), (column_, cell)


def check_chosen(kind: str, cells: list[str], stands_for: Mapping[str, list[Any]], attributes: Any) -> None:
    """A column for each value but the dropped one, and one for all of the rare ones together."""
    times = Counter(value for cell in cells if (value := typed(cell, kind)) is not None)
    # SecretFlow rounds how often it has to be there
    least = round(len(cells) * attributes["min_frequency"])
    placed = [value for meant in stands_for.values() for value in meant]
    assert len(placed) == len(set(placed))
    dropped = set(times) - set(placed)
    how = attributes["drop"]["choose"]
    assert len(dropped) == (how != "no_drop")
    if how == "first":
        assert dropped == {next(iter(times))}
    if how == "mode":
        assert {times[value] for value in dropped} == {max(times.values())}
    rare = {value for value in placed if times[value] < least}
    expected = [{value} for value in placed if value not in rare] + ([rare] if rare else [])
    assert sorted(map(sorted, expected)) == sorted(sorted(meant) for meant in stands_for.values())
