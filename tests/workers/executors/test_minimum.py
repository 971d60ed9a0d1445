"""Intersections and groups that are smaller than a party's policy says: no party keeps or tells anything of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from tests.parties import SMALL_KEYS, Parties, Processes

ROWS = 60


@pytest.fixture(scope="module")
def everybody(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    found = Parties(
        processes, tmp_path_factory.mktemp("minimum"), ("alice", "bob"), spu_config={}, heu_config=SMALL_KEYS
    )
    yield found
    found.close()


@pytest.fixture
def parties(everybody: Parties) -> Parties:
    everybody.policies = {}
    everybody.table("alice", "people", pd.DataFrame({"uid": [f"p{i}" for i in range(ROWS)], "x": range(ROWS)}))
    # 7 in common
    everybody.table("bob", "people", pd.DataFrame({"uid": [f"p{i}" for i in range(ROWS - 7, 2 * ROWS)]}))
    big, small = [i % 2 for i in range(ROWS - 3)], [2, 2, 2]
    lined_up = {"key": [*big, *small], "x": range(ROWS), "y": [i % 3 == 0 for i in range(ROWS)]}
    for party in ("alice", "bob"):
        everybody.table(party, "rows", pd.DataFrame(lined_up))
    return everybody


def run(parties: Parties, task: dict[str, Any]) -> dict[str, Any]:
    """Not on the session of the run before, which goes by another policy."""
    return {name: answer["result_metadata"] for name, answer in parties.answers(task).items()}


def matched(task: str, receivers: list[str], **params: Any) -> dict[str, Any]:
    keys = {"input_keys": {"alice": ["uid"], "bob": ["uid"]}}
    sources = {"data_sources": {"alice": "people", "bob": "people"}, "outputs": dict.fromkeys(receivers, "common")}
    if task == "psi":
        params = {"psi_params": keys | {"receivers": receivers, **params}}
    elif task == "unbalanced_psi":
        params = {"unbalanced_psi_params": keys | {"client": receivers[0]}}
    else:
        columns = {name: {"ids": {party: ["uid"]}} for name, party in (("input_ds1", "alice"), ("input_ds2", "bob"))}
        params = {"component_params": {"component": task, "columns": columns, "attributes": params}}
    return {"task_type": "component" if "/" in task else task, **sources, "algorithm_params": params}


BOTH = ["alice", "bob"]
MATCHED = {
    "psi": matched("psi", BOTH),
    "psi of one": matched("psi", ["alice"], protocol="PROTOCOL_ECDH"),
    "difference": matched("psi", BOTH, join_type="difference"),
    "left join of one": matched("psi", ["alice"], join_type="left_join", left_side="alice"),
    "unbalanced": matched("unbalanced_psi", ["alice"]),
    "component": matched("data_prep/psi", BOTH),
}


@pytest.mark.parametrize("name", MATCHED)
def test_too_small_an_intersection_is_nobodys(parties: Parties, name: str) -> None:
    """Whichever party asks for it, also the one that does not learn the intersection."""
    parties.policies = {"bob": "min_intersection_rows = 7"}
    run(parties, MATCHED[name])
    path = parties.directory / "alice" / "outputs" / "common.csv"
    before = path.stat().st_mtime_ns
    parties.policies = {"bob": "min_intersection_rows = 8"}
    with pytest.raises(AssertionError, match="fewer rows in common than the 8 that their policies ask for") as caught:
        run(parties, MATCHED[name])
    assert path.stat().st_mtime_ns == before, "an output was kept"
    assert not [word for word in ("intersection_count", "output_rows") if word in str(caught.value)]


def grouped(*by: str, of: str = "alice") -> dict[str, Any]:
    aggregate = {"party": of, "column": "x", "function": "SUM"}
    params = {"by": {party: ["key"] for party in by}, "aggregates": [aggregate]}
    return figures("group_by", "group_by_params", params)


def figures(task_type: str, key: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    sources = {"data_sources": {"alice": "rows", "bob": "rows"}, "outputs": {}}
    return {"task_type": task_type, **sources, **more, "algorithm_params": {key: params}}


GROUPED = {
    "at one party": grouped("alice"),
    "on shares": grouped("bob"),
    "of both": grouped("alice", "bob"),
    "stability": figures(
        "stability",
        "stability_params",
        {"columns": {"bob": ["key"]}},
        further_sources={"test": {"alice": "rows", "bob": "rows"}},
    ),
    "woe": figures(
        "woe_binning", "woe_params", {"columns": {"bob": ["key"]}, "label": {"party": "alice", "column": "y"}}
    ),
}


@pytest.mark.parametrize("name", GROUPED)
def test_figures_of_too_small_a_group_are_told_to_nobody(parties: Parties, name: str) -> None:
    plain = run(parties, GROUPED[name])
    parties.policies = {"alice": "min_group_rows = 3"}
    assert run(parties, GROUPED[name]) == plain, "a minimum that is met changes figures"
    parties.policies = {"alice": "min_group_rows = 4"}
    with pytest.raises(AssertionError, match="a group has fewer rows than the 4 that the parties' policies ask for"):
        run(parties, GROUPED[name])


def test_a_group_that_two_keys_make_counts(parties: Parties) -> None:
    """Each key alone has rows enough."""
    one, other = [0] * 30 + [1] * 30, [0] * 28 + [1] * 32
    for party, key in (("alice", one), ("bob", other)):
        parties.table(party, "rows", pd.DataFrame({"key": key, "x": range(ROWS), "y": range(ROWS)}))
    parties.policies = {"bob": "min_group_rows = 2"}
    found = run(parties, grouped("alice", "bob"))["alice"]["reports"]["report"][0]["tables"][0]["rows"]
    assert [row[:2] for row in found] == [[0, 0], [0, 1], [1, 1]]
    parties.policies = {"bob": "min_group_rows = 3"}
    with pytest.raises(AssertionError, match="a group has fewer rows than the 3"):
        run(parties, grouped("alice", "bob"))


def test_a_table_is_a_group(parties: Parties) -> None:
    parties.policies = {"bob": f"min_group_rows = {ROWS + 1}"}
    with pytest.raises(AssertionError, match="dataset rows has fewer rows than min_group_rows of its"):
        run(parties, grouped("alice"))


@pytest.mark.parametrize(
    ("component", "columns", "attributes"),
    [
        (
            "stats/groupby_statistics",
            {"features": {"alice": ["x"], "bob": ["key"]}, "select": {"by": ["key"]}},
            {"aggregation_config": {"column_queries": [{"function": "SUM", "column_name": "x"}]}},
        )
    ],
)
def test_a_component_that_does_not_check_groups_is_refused(
    parties: Parties, component: str, columns: Any, attributes: Any
) -> None:
    parties.policies = {"bob": "min_group_rows = 2"}
    params = {"component": component, "columns": {"input_ds": columns}, "attributes": attributes}
    task = figures("component", "component_params", json.loads(json.dumps(params)))
    with pytest.raises(AssertionError, match="has min_group_rows, which stats/groupby_statistics does not check; use"):
        run(parties, task)
