"""``split``, ``vertical_table`` and ``scale``: the rows that come out, as they are written, in the order they had."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import KINDS, NUMBERS, PARTIES, Case, Output, column, number

#: SecretFlow computes in float64 and writes what it has: a few operations' rounding is left.
PRECISION = 1e-9


def case_of(task_type: str, columns: Mapping[str, Mapping[str, list[str]]], params: Mapping[str, Any]) -> Case:
    parties = tuple(columns)
    task: dict[str, Any] = {
        "task_type": task_type,
        "data_sources": dict.fromkeys(parties, "rows"),
        "outputs": dict.fromkeys(parties, "made"),
        "algorithm_params": {f"{task_type}_params": dict(params)},
    }
    if task_type == "split":
        task["further_outputs"] = {"test": dict.fromkeys(parties, "test")}
    return Case({"rows": columns}, task, parties)


@st.composite
def strategy(draw: Any) -> Case:
    task_type = draw(st.sampled_from(("split", "vertical_table", "scale")))
    parties = PARTIES[: draw(st.sampled_from((2, 2, 2, 3)))] if task_type == "split" else PARTIES[:2]
    rows = draw(st.integers(2, 30))
    columns: dict[str, dict[str, list[str]]] = {}
    for party in parties:
        columns[party] = {"id": [f"{party[0]}{index}" for index in range(rows)]}
        for index in range(draw(st.integers(1, 2))):
            kind = draw(st.sampled_from(NUMBERS[:2] if task_type == "scale" else KINDS))
            columns[party][f"x {index}"] = draw(column(rows, kind, empty=task_type != "scale"))
    if task_type == "split":
        params = {"test_fraction": draw(st.sampled_from((0.1, 0.5, 0.75))), "seed": draw(st.integers(0, 9))}
        return case_of(task_type, columns, params)
    chosen = {party: draw(st.permutations(list(found)[1:])) for party, found in columns.items()}
    if task_type == "scale":
        for party, named in chosen.items():
            assume(all(len(set(map(number, columns[party][name]))) > 1 for name in named))
        return case_of(task_type, columns, {"columns": chosen, "method": draw(st.sampled_from(METHODS))})
    return case_of(task_type, columns, {"columns": chosen})


METHODS = ("standardize", "normalize")


def examples() -> list[Case]:
    columns = {p: {"id": ["a", "b", "c"], "x 0": ["1", "2", "4"]} for p in PARTIES[:2]}
    return [case_of("scale", columns, {"columns": {"alice": ["x 0"]}, "method": method}) for method in METHODS]


def read(text: str) -> dict[str, list[str]]:
    heading, *lines = csv.reader(io.StringIO(text))
    return {name: [line[index] for line in lines] for index, name in enumerate(heading)}


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    params = case.task["algorithm_params"][f"{case.task['task_type']}_params"]
    made = {party: read(output(party, "made")) for party in case.parties}
    before = case.tables["rows"]
    if case.task["task_type"] == "split":
        _check_split(case, params, made, {party: read(output(party, "test")) for party in case.parties})
    elif case.task["task_type"] == "vertical_table":
        for party, named in params["columns"].items():
            assert list(made[party].items()) == [(name, before[party][name]) for name in named]
    else:
        for party in case.parties:
            _check_scaled(made[party], before[party], params["columns"].get(party, []), params["method"])


def _check_split(case: Case, params: Mapping[str, Any], train: Any, test: Any) -> None:
    rows = len(case.cells("alice", "id"))
    count = min(max(round(rows * params["test_fraction"]), 1), rows - 1)
    places = {}
    for party in case.parties:
        before = case.tables["rows"][party]
        at = [[before["id"].index(name) for name in part[party]["id"]] for part in (train, test)]
        assert [len(found) for found in at] == [rows - count, count]
        assert all(found == sorted(found) for found in at), "each part has the order that the table had"
        for found, part in zip(at, (train, test), strict=True):
            assert part[party] == {name: [cells[i] for i in found] for name, cells in before.items()}
        places[party] = at
    assert len({str(at) for at in places.values()}) == 1, "the parties have unlike rows"
    assert sorted(places["alice"][0] + places["alice"][1]) == list(range(rows))


def _check_scaled(made: Mapping[str, list[str]], before: Mapping[str, list[str]], named: Any, method: str) -> None:
    assert set(made) == set(before)
    for name, cells in before.items():
        if name not in named:
            assert made[name] == cells
            continue
        found, values = (np.array([number(cell) for cell in column]) for column in (made[name], cells))
        if method == "standardize":
            expected = (values - values.mean()) / values.std()
        else:
            expected = (values - values.min()) / (values.max() - values.min())
        # A column near 1e9 that varies by 1 has lost nine of its digits before anybody divides
        lost = np.abs(values).max() / np.ptp(values)
        assert np.abs(found - expected).max() <= PRECISION * max(1.0, lost), (name, found, expected)
