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


def test_a_column_of_one_value_and_empty_cells_is_not_scaled(parties: Parties) -> None:
    parties.table("alice", "rows", ALICE.assign(once=[None, 5.0, 5.0, None]))
    scaling = task(
        "preprocessing/feature_calculate", ["once"], {"rules": {"op": "STANDARDIZE"}}, {"features": ["once"]}
    )
    scaling |= {
        "outputs": dict.fromkeys(NAMES, "made"),
        "further_outputs": {"output_rule": dict.fromkeys(NAMES, "rule")},
    }
    with pytest.raises(AssertionError, match=r"column 'once' of dataset rows has one value and empty cells.*leave"):
        parties.run(scaling)


def test_tables_of_unlike_columns_do_not_come_one_below_the_other(parties: Parties) -> None:
    parties.table("alice", "others", ALICE.assign(x=["a", "b", "c", "d"]))
    parties.table("bob", "others", BOB.assign(amount=["a", "b", "c", "d"]))
    both = task("data_prep/union", ["x"]) | {"outputs": dict.fromkeys(NAMES, "made")}
    slot = both["algorithm_params"]["component_params"]["columns"].pop("input_ds")
    both["algorithm_params"]["component_params"]["columns"] = {"input_ds1": slot, "input_ds2": slot}
    both["further_sources"] = {"input_ds2": dict.fromkeys(NAMES, "others")}
    with pytest.raises(
        AssertionError, match=r"column 'x' is float in dataset rows and str in dataset others; declare the same type"
    ):
        parties.run(both)
