"""What SecretFlow's own components compute wrongly is refused, or told in the result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from tests.parties import Parties, Processes

NAMES = ("alice", "bob")
ALICE = pd.DataFrame({"group": [1.0, 1.0, None, 2.0], "big": [2**53 + i for i in range(4)], "x": [1.0, 2.0, 4.0, 3.0]})
BOB = pd.DataFrame({"amount": [100.5, 200.0, 5000.0, 50.0]})


@pytest.fixture(scope="module")
def parties(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    found = Parties(processes, tmp_path_factory.mktemp("wrong"), NAMES, spu_config={})
    found.table("alice", "rows", ALICE)
    found.table("bob", "rows", BOB)
    yield found
    found.close()


def task(component: str, columns: list[str], attributes: Any = None, select: Any = None) -> dict[str, Any]:
    table = {"features": {"alice": columns, "bob": ["amount"]}} | ({"select": select} if select else {})
    params = {"component": component, "columns": {"input_ds": table}}
    return {
        "task_type": "component",
        "data_sources": dict.fromkeys(NAMES, "rows"),
        "algorithm_params": {"component_params": params | ({"attributes": attributes} if attributes else {})},
    }


def test_groups_with_empty_keys(parties: Parties) -> None:
    queries = {"column_queries": [{"function": "SUM", "column_name": "amount"}]}
    grouped = task("stats/groupby_statistics", ["group"], {"aggregation_config": queries}, {"by": ["group"]})
    with pytest.raises(
        AssertionError, match=r"column 'group' of dataset rows has empty values.*the task type group_by"
    ):
        parties.run(grouped)


@pytest.mark.parametrize(
    ("component", "said"), [("data_filter/sample", "declare it str"), ("stats/table_statistics", "the task type")]
)
def test_large_whole_numbers(parties: Parties, component: str, said: str) -> None:
    with pytest.raises(AssertionError, match=rf"column 'big' of dataset rows has whole numbers of .*{said}"):
        parties.run(task(component, ["big"]))


def test_correlations_of_few_rows(parties: Parties) -> None:
    [warning] = (w for w in parties.run(task("stats/ss_pearsonr", ["x"]))["bob"]["warnings"] if "line up" not in w)
    assert "n / (n - 1) times the correlations" in warning
