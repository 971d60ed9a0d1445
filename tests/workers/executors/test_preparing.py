"""Columns that are prepared hold what the task type promises, whatever is in the cells."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.parties import SMALL_KEYS, Parties, Processes

BOTH = {"alice": "rows", "bob": "rows"}
MADE = {"alice": "made", "bob": "made"}
RULE = {"alice": "rule", "bob": "rule"}


@pytest.fixture
def parties(processes: Processes, tmp_path: Any) -> Iterator[Parties]:
    made = Parties(processes, tmp_path, ("alice", "bob"), heu_config=SMALL_KEYS)
    yield made
    made.close()


def one_hot(parties: Parties, columns: Any, further: Any = None, **params: Any) -> dict[str, Any]:
    task = {
        "task_type": "one_hot", "data_sources": BOTH, "outputs": MADE,
        "further_outputs": {"rule": RULE} | (further or {}),
        "algorithm_params": {"one_hot_params": {"columns": columns} | params},
    }  # fmt: skip
    return parties.run(task)["alice"]


def apply_rule(parties: Parties, name: str = "other") -> dict[str, Any]:
    task = {
        "task_type": "apply_rule", "data_sources": dict.fromkeys(BOTH, name), "further_sources": {"rule": RULE},
        "outputs": {"alice": "again", "bob": "again"}, "algorithm_params": {},
    }  # fmt: skip
    return parties.run(task)["alice"]


def test_values_are_taken_as_they_are_written_and_empty_cells_are_zeros(parties: Parties) -> None:
    for party in BOTH:
        parties.table(party, "rows", pd.DataFrame({"x": ["a", "b", "", "NA"], "code": ["007", "7", "010", "7"]}))
    answer = one_hot(parties, {"alice": ["x", "code"], "bob": ["code"]}, {"values": {"alice": "which"}})
    assert answer["columns"]["alice"] == ["x_0", "x_1", "x_2", "code_0", "code_1", "code_2"]
    made = parties.output("alice", "made")
    assert made[["x_0", "x_1", "x_2"]].to_numpy().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert made[["code_0", "code_1", "code_2"]].to_numpy().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    which = pd.read_csv(parties.directory / "alice" / "outputs" / "which.csv", dtype=str, keep_default_na=False)
    assert which.to_numpy().tolist() == [
        ["x", "a", "x_0"], ["x", "b", "x_1"], ["x", "NA", "x_2"],
        ["code", "007", "code_0"], ["code", "7", "code_1"], ["code", "010", "code_2"],
    ]  # fmt: skip


def test_columns_of_like_names_keep_their_own(parties: Parties) -> None:
    table = pd.DataFrame({"a b": ["x", "y", "x"], "a_b": ["1", "1", "2"], "a.b": ["p", "q", "r"]})
    for party in BOTH:
        parties.table(party, "rows", table)
    one_hot(parties, {"alice": list(table), "bob": ["a_b"]})
    made = parties.output("alice", "made")
    assert list(made) == ["a b_0", "a b_1", "a_b_0", "a_b_1", "a.b_0", "a.b_1", "a.b_2"]
    assert made["a b_0"].tolist() == [1, 0, 1]
    assert made["a_b_0"].tolist() == [1, 1, 0]
    assert made["a.b_2"].tolist() == [0, 0, 1]


def test_a_value_that_the_rule_does_not_know_is_told(parties: Parties) -> None:
    for party in BOTH:
        parties.table(party, "rows", pd.DataFrame({"x": ["a", "b", "a"]}))
        parties.table(party, "other", pd.DataFrame({"x": ["b", "c", "", "a", "c"]}))
    one_hot(parties, {"alice": ["x"], "bob": ["x"]}, drop="first")
    answer = apply_rule(parties)
    assert parties.output("alice", "again")["x_0"].tolist() == [1, 0, 0, 0, 0]
    told = [warning for warning in answer["warnings"] if "does not know" in warning]
    assert told == [
        f"{party}.x: 2 of the rows have a value that the rule does not know: they have 0 in all its new columns"
        for party in BOTH
    ]


def test_values_of_too_small_a_share_have_one_column(parties: Parties) -> None:
    for party in BOTH:
        parties.table(party, "rows", pd.DataFrame({"x": list("aaaabbbccd")}))
    one_hot(parties, {"alice": ["x"]}, {"values": {"alice": "which"}}, min_frequency=0.25)
    which = pd.read_csv(parties.directory / "alice" / "outputs" / "which.csv")
    assert which["new_column"].tolist() == ["x_0", "x_1", "x_2", "x_2"]


def woe(x: Any, label: Any, cuts: list[float]) -> tuple[list[float], float]:
    """The weight of each row, and the information value."""
    bins = np.searchsorted(cuts, x, side="left")
    table = pd.crosstab(bins, label).to_numpy(float)
    added = np.where((table == 0).any(axis=1), 0.5, 0.0)[:, None]
    shares = (table + added) / table.sum(axis=0)
    weights = np.log(shares[:, 1] / shares[:, 0])
    place = np.unique(bins, return_inverse=True)[1]
    return list(weights[place]), float(((shares[:, 1] - shares[:, 0]) * weights).sum())


def test_a_column_that_is_mostly_one_number_is_put_into_bins(parties: Parties) -> None:
    random = np.random.default_rng(4)
    rare, flag = (random.random(200) < 0.06).astype(int), random.random(200) < 0.97
    label = ((rare + random.random(200)) > 0.6).astype(int)
    parties.table("alice", "rows", pd.DataFrame({"rare": rare, "flag": flag}))
    parties.table("bob", "rows", pd.DataFrame({"rare": rare, "y": label}))
    task = {
        "task_type": "woe_binning", "data_sources": BOTH, "outputs": MADE, "further_outputs": {"rule": RULE},
        "algorithm_params": {"woe_params": {
            "columns": {"alice": ["rare", "flag"], "bob": ["rare"]}, "label": {"party": "bob", "column": "y"}}},
    }  # fmt: skip
    answers = parties.run(task)
    values = answers["alice"]["information_values"]
    assert answers["bob"]["information_values"] == values
    for party, column, x in (("alice", "rare", rare), ("alice", "flag", flag), ("bob", "rare", rare)):
        weights, value = woe(x, label, [0.0])
        # Weights are float32
        assert parties.output(party, "made")[column].tolist() == pytest.approx(weights, rel=1e-6)
        assert values[f"{party}.{column}"] == pytest.approx(value, rel=1e-9)

    other = pd.DataFrame({"rare": [0, 1, None, 7], "flag": [True, None, False, True]})
    for party in BOTH:
        parties.table(party, "other", other)
    answer = apply_rule(parties)
    weights, _ = woe(rare, label, [0.0])
    zero, one = weights[int(np.argmin(rare))], weights[int(np.argmax(rare))]
    assert parties.output("alice", "again")["rare"].tolist() == pytest.approx([zero, one, 0.0, one], rel=1e-6)
    assert "alice.rare: 1 of the rows have no value in it: their weight of evidence is 0" in answer["warnings"]
    assert math.isclose(parties.output("bob", "again")["rare"][2], 0.0)


def test_information_values_are_those_of_the_column_s_own_bins(parties: Parties) -> None:
    random = np.random.default_rng(8)
    x, z, label = random.normal(size=200), random.integers(0, 5, 200), random.integers(0, 2, 200)
    parties.table("alice", "rows", pd.DataFrame({"x": x + label, "z": z, "again": x + label}))
    parties.table("bob", "rows", pd.DataFrame({"z": z, "x": x + label, "y": label}))
    task = {
        "task_type": "woe_binning", "data_sources": BOTH, "outputs": MADE,
        "algorithm_params": {"woe_params": {
            "columns": {"alice": ["x", "z", "again"], "bob": ["z", "x"]}, "label": {"party": "bob", "column": "y"},
            "method": "chimerge"}},
    }  # fmt: skip
    values = parties.run(task)["alice"]["information_values"]
    _, clear = woe(z, label, [0, 1, 2, 3])
    assert values["alice.z"] == pytest.approx(clear, rel=1e-9)
    assert values["bob.z"] == pytest.approx(clear, rel=1e-9)
    # The label's party computes those of its own columns in the clear, and in another way
    assert values["alice.x"] == pytest.approx(values["bob.x"], rel=1e-9)
    assert values["alice.x"] == pytest.approx(values["alice.again"], rel=1e-9)


@pytest.mark.parametrize("method", ["standardize", "normalize"])
def test_yes_and_no_are_scaled_as_1_and_0(parties: Parties, method: str) -> None:
    yes = np.array([True, False, True, True])
    for party in BOTH:
        parties.table(party, "rows", pd.DataFrame({"x": yes}))
        parties.table(party, "other", pd.DataFrame({"x": ~yes}))
    task = {
        "task_type": "scale", "data_sources": BOTH, "outputs": MADE, "further_outputs": {"rule": RULE},
        "algorithm_params": {"scale_params": {"columns": {"alice": ["x"], "bob": ["x"]}, "method": method}},
    }  # fmt: skip
    parties.run(task)
    mean, deviation = (yes.mean(), yes.std()) if method == "standardize" else (0.0, 1.0)
    assert parties.output("bob", "made")["x"].tolist() == pytest.approx((yes - mean) / deviation)
    apply_rule(parties)
    assert parties.output("bob", "again")["x"].tolist() == pytest.approx((~yes - mean) / deviation)
