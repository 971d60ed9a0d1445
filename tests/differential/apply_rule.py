"""``apply_rule``: what ``scale``, ``one_hot`` and ``woe_binning`` did to one table, done to another in the clear."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import KINDS, NUMBERS, Case, Output, column, is_empty, kind_found, number
from workers.executors.bins import cut_points

PARTIES = ("alice", "bob")
METHODS = ("standardize", "normalize")


def case_of(rule: str, base: Mapping[str, Any], other: Mapping[str, Any], **params: Any) -> Case:
    """``base`` and ``other``: party to columns. A column's name begins with its kind; ``y`` is woe_binning's label."""
    columns = {party: [name for name in mine if name not in ("id", "y")] for party, mine in base.items()}
    key = {"scale": "scale_params", "one_hot": "one_hot_params", "woe_binning": "woe_params"}[rule]
    first = {
        "task_type": rule,
        "data_sources": dict.fromkeys(PARTIES, "rows"),
        "outputs": dict.fromkeys(PARTIES, "first"),
        "further_outputs": {"rule": dict.fromkeys(PARTIES, "rule")},
        "algorithm_params": {key: {"columns": columns} | params},
    }
    if rule == "one_hot":
        first["further_outputs"]["values"] = dict.fromkeys(PARTIES, "which")
    task = {
        "task_type": "apply_rule",
        "data_sources": dict.fromkeys(PARTIES, "other"),
        "further_sources": {"rule": dict.fromkeys(PARTIES, "rule")},
        "outputs": dict.fromkeys(PARTIES, "made"),
        "algorithm_params": {"apply_rule_params": {}},
    }
    return Case({"rows": base, "other": other}, task, PARTIES, before=[first])


@st.composite
def strategy(draw: Any) -> Case:
    rule = draw(st.sampled_from(("scale", "one_hot", "woe_binning")))
    rows, others = draw(st.integers(2, 30)), draw(st.integers(1, 30))
    base: dict[str, dict[str, list[str]]] = {}
    other: dict[str, dict[str, list[str]]] = {}
    for party in PARTIES:
        named = [
            f"{draw(st.sampled_from(KINDS if rule == 'one_hot' else NUMBERS[:2]))} {index}"
            for index in range(draw(st.integers(1, 2)))
        ]
        base[party], other[party] = {}, {}
        for name in named:
            kind = name.split()[0]
            base[party][name] = draw(column(rows, kind, empty=rule == "one_hot"))
            # Values that the first table has, and others
            near = draw(st.lists(st.sampled_from(base[party][name]), min_size=others, max_size=others))
            far = draw(column(others, kind, empty=rule != "scale"))
            mixed = draw(st.lists(st.booleans(), min_size=others, max_size=others))
            other[party][name] = [a if m else b for a, b, m in zip(near, far, mixed, strict=True)]
            assume(all(kind_found(cells[party][name], kind) == kind for cells in (base, other)))
            if rule != "one_hot":
                assume(len({number(cell) for cell in base[party][name]}) > 1)
        other[party]["id"] = [f"{party[0]}{index}" for index in range(others)]
    if rule == "scale":
        return case_of(rule, base, other, method=draw(st.sampled_from(METHODS)))
    if rule == "one_hot":
        return case_of(rule, base, other, min_frequency=draw(st.sampled_from((0.0, 0.0, 0.3))))
    base["bob"]["y"] = draw(st.lists(st.sampled_from("01"), min_size=rows, max_size=rows))
    assume(len(set(base["bob"]["y"])) == 2)
    return case_of(rule, base, other, label={"party": "bob", "column": "y"}, bins=draw(st.integers(2, 12)))


def examples() -> list[Case]:
    return []


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    [first] = case.before
    [params] = first["algorithm_params"].values()
    for party in case.parties:
        made = list(csv.DictReader(io.StringIO(output(party, "made"))))
        other = case.tables["other"][party]
        assert [row["id"] for row in made] == other["id"]
        for name in params["columns"][party]:
            cells, base = other[name], case.tables["rows"][party][name]
            warned = [w for w in answers[party].get("warnings", []) if w.startswith(f"{party}.{name}: ")]
            if first["task_type"] == "one_hot":
                unlike = _check_one_hot(name, cells, base, made, output(party, "which"))
            else:
                found = np.array([float(row[name]) for row in made])
                numbers, fitted = (np.array([number(cell) for cell in column]) for column in (cells, base))
                if first["task_type"] == "scale":
                    unlike = _check_scaled(params["method"], fitted, numbers, found)
                else:
                    label = np.array([number(cell) for cell in case.cells("bob", "y")])
                    unlike = _check_weights(params["bins"], label, fitted, numbers, found)
            if unlike:
                assert len(warned) == 1
                assert warned[0].startswith(f"{party}.{name}: {unlike} of the rows")
            else:
                assert not [w for w in warned if "of the rows" in w]


def _check_one_hot(name: str, cells: list[str], base: list[str], made: list[dict[str, str]], which: str) -> int:
    kind = name.split()[0]
    values = {r["value"]: r["new_column"] for r in csv.DictReader(io.StringIO(which)) if r["column"] == name}
    assert set(values) == {cell for cell in base if not is_empty(cell, kind)}
    new = [column for column in made[0] if column.rpartition("_")[0] == name]
    unlike = 0
    for row, cell in zip(made, cells, strict=True):
        none = is_empty(cell, kind)
        right = "" if none else values.get(cell, "")
        assert [row[column] for column in new] == ["1" if column == right else "0" for column in new]
        unlike += not none and cell not in values
    return unlike


def _check_scaled(method: str, base: Any, numbers: Any, found: Any) -> int:
    if method == "standardize":
        from_, by = base.mean(), base.std()
    else:
        from_, by = base.min(), np.ptp(base)
    # A column near 1e9 that varies by 1 has lost nine of its digits before anybody divides
    lost = max(float(np.abs(base).max()), float(np.abs(numbers).max())) / by
    assert np.abs(found - (numbers - from_) / by).max() <= 1e-9 * max(1.0, lost)
    return 0


def _check_weights(bins: int, label: Any, base: Any, numbers: Any, found: Any) -> int:
    cuts = cut_points(base, bins, "quantile")
    place, weights = np.searchsorted(cuts, base, side="left"), np.zeros(len(cuts) + 1)
    for one in np.unique(place):
        yes, no = (float(np.sum(label[place == one] == kind)) for kind in (1, 0))
        added = 0.0 if yes and no else 0.5
        weights[one] = math.log((yes + added) / np.sum(label == 1) * np.sum(label == 0) / (no + added))
    none = np.isnan(numbers)
    expected = np.where(none, 0.0, weights[np.searchsorted(cuts, np.where(none, 0.0, numbers), side="left")])
    # SecretFlow keeps weights in float32
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-7)
    return int(none.sum())
