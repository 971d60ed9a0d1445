"""What SecretFlow's own components compute wrongly is refused, or told in the result."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tests.held import most_held
from tests.parties import Parties, Processes
from workers.components.wrong import check_arithmetic, check_binned, check_encoded, check_table
from workers.contract.errors import ConfigError
from workers.contract.validation import validate
from workers.host.sources import Source
from workers.host.tables import column_types, declare

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


@pytest.mark.parametrize(
    ("cells", "said"), [("0.1 0.10000001 2.5", "differ by less than 1e-07"), ("0.1 0.2 0.2", ""), ("1 2 3", "")]
)
def test_numbers_that_one_hot_encoding_does_not_tell_apart(tmp_path: Path, cells: str, said: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["a", *cells.split(), ""]))
    refused = (
        pytest.raises(ConfigError, match=f"column 'a' of dataset rows.*{said}.*one_hot") if said else nullcontext()
    )
    with refused:
        check_encoded("preprocessing/onehot_encode", Source("rows", path), ["a"])


@pytest.mark.parametrize(
    ("cells", "said"),
    [("5,5,", "one value"), ("5,,NA", "one value"), (",,", "no value"), ("a,a", ""), ("5,6", "")],
)
def test_columns_of_which_no_bins_are_made(tmp_path: Path, cells: str, said: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["a,b", *(f"{cell},1" for cell in cells.split(",")), ""]))
    refused = (
        pytest.raises(ConfigError, match=f"column 'a' of dataset rows has {said}.*leave") if said else nullcontext()
    )
    with refused:
        check_binned("preprocessing/vert_binning", Source("rows", path), ["a"])


def test_signs_for_no_number_are_empty_cells_to_components(parties: Parties) -> None:
    parties.table("alice", "signs", 'n,t\n1,NA\nNA,"a,b"\nn/a,\n4,x\n')
    parties.table("bob", "signs", "amount\n1.5\nnan\n2.5\nNULL\n")
    filling = task("preprocessing/fillna", ["n", "t"])
    filling["algorithm_params"]["component_params"] = {
        "component": "preprocessing/fillna",
        "columns": {
            "input_ds": {
                "features": {"alice": ["n", "t"], "bob": ["amount"]}, "select": {"fill_na_features": ["n", "amount"]},
            }
        },
        "attributes": {
            "int_fill_strategy": "constant", "fill_value_int": 7,
            "float_fill_strategy": "constant", "fill_value_float": 7.5,
        },
    }  # fmt: skip
    filling |= {
        "data_sources": dict.fromkeys(NAMES, "signs"), "outputs": dict.fromkeys(NAMES, "made"),
        "further_outputs": {"output_rule": dict.fromkeys(NAMES, "rule")},
    }  # fmt: skip
    parties.run(filling)
    rows = (parties.directory / "alice" / "outputs" / "made.csv").read_text().replace('"', "").split()
    assert rows == ["n,t", "1,NA", "7,a,b", "7,", "4,x"]
    assert parties.output("bob", "made").amount.tolist() == [1.5, 7.5, 2.5, 7.5]


def test_tables_of_unlike_columns_do_not_come_one_below_the_other(parties: Parties) -> None:
    parties.table("alice", "others", ALICE.assign(x=["a", "b", "c", "d"]))
    parties.table("bob", "others", BOB.assign(amount=["a", "b", "c", "d"]))
    both = task("data_prep/union", ["x"]) | {"outputs": dict.fromkeys(NAMES, "made")}
    table = both["algorithm_params"]["component_params"]["columns"].pop("input_ds")
    both["algorithm_params"]["component_params"]["columns"] = {"input_ds1": table, "input_ds2": table}
    both["further_sources"] = {"input_ds2": dict.fromkeys(NAMES, "others")}
    with pytest.raises(
        AssertionError, match=r"column 'x' is float in dataset rows and str in dataset others; declare the same type"
    ):
        parties.run(both)


@pytest.mark.parametrize(
    ("sign", "a", "b", "row"),
    [
        ("*", [2, 3 * 10**9], [5, 4 * 10**9], 2),
        ("*", [-(2**62)], [2], None),
        ("*", [2**62], [2], 1),
        ("+", [2**62, 1], [2**62, 1], 1),
        ("-", [-(2**62)], [2**62], None),
        ("/", [6, 7], [3, 2], 2),
        ("/", [6, 7], [3, 0], 2),
        ("/", [6, 8], [3, 2], None),
        ("/", [-(2**63)], [-1], 1),
        ("*", [2**62, 0.5], [2, 3], None),
        ("+", [1, 2**62], ["", 2**62], 2),
        ("+", [1] * 300_000 + [2**63 - 1], [2] * 300_001, 300_001),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_arithmetic_that_whole_numbers_of_64_bits_cannot_hold(
    tmp_path: Path, sign: str, a: list[float], b: list[Any], row: int | None
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("".join(f"{first},{second}\n" for first, second in zip(["a", *a], ["b", *b], strict=True)))
    refused = (
        pytest.raises(ConfigError, match=rf"row {row} of dataset rows: 'a' {re.escape(sign)} 'b' is no whole number")
        if row
        else nullcontext()
    )
    with refused:
        attributes = SimpleNamespace(binary_op=sign)
        check_arithmetic("preprocessing/binary_op", attributes, Source("rows", path), ["a", "b"])


def test_a_million_rows_are_looked_at_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "".join(f"{row},{row * 2}\n" for row in range(1_000_000)))
    column_types(path, "rows")  # whose own blocks are larger, and which is remembered
    source, attributes = Source("rows", path), SimpleNamespace(binary_op="+")
    for check in (
        lambda: check_arithmetic("preprocessing/binary_op", attributes, source, ["a", "b"]),
        lambda: check_table("data_filter/sample", source, ["a", "b"], []),
        lambda: check_table("stats/groupby_statistics", source, [], ["a"]),
    ):
        python, _ = most_held(check)
        assert python < 2 << 20


@pytest.mark.parametrize(("value", "refused"), [(2**53 - 1, False), (2**53, True), (-(2**53), True), ("+5", False)])
def test_whole_numbers_that_sampling_would_round(tmp_path: Path, value: Any, refused: bool) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"a,b\n1,1\n,2\n {value} ,3\n")
    source = Source("rows", path)
    declare({(path, "rows"): {"a": "int"}})
    expected = pytest.raises(ConfigError, match="column 'a' of dataset rows has whole numbers of 9007199254740992")
    with expected if refused else nullcontext():
        check_table("data_filter/sample", source, ["a"], [])


def test_a_product_that_overflows_is_refused_in_the_run(parties: Parties) -> None:
    parties.table("alice", "rows", ALICE.assign(wide=[1, 2, 2**33, 4]))
    product = task(
        "preprocessing/binary_op", ["big", "wide"], {"binary_op": "*", "new_feature_name": "new"},
        {"f1": "big", "f2": "wide"},
    )  # fmt: skip
    product |= {
        "outputs": dict.fromkeys(NAMES, "made"),
        "further_outputs": {"output_rule": dict.fromkeys(NAMES, "rule")},
    }
    with pytest.raises(AssertionError, match=r"row 3 of dataset rows: 'big' [*] 'wide' is no whole number"):
        parties.run(product)


@pytest.mark.parametrize("task_type", ["ss_xgb", "sgb"])
def test_more_bins_than_boosted_trees_tell_apart(task_type: str) -> None:
    params = {
        "features": {"alice": ["x"]},
        "label": {"party": "bob", "column": "amount"},
        "training_params": {"sketch_eps": 0.005},
    }
    key = {"ss_xgb": "xgb_params", "sgb": "sgb_params"}[task_type]
    document = {
        "task_type": task_type,
        "data_sources": dict.fromkeys(NAMES, "rows"),
        "outputs": {"bob": "predictions"},
        "algorithm_params": {key: params},
    }
    documents = {
        "sf_init_config": {"parties": list(NAMES)}, "spu_config": {}, "heu_config": {"sk_keeper": "bob"},
        "task_config": document,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"sketch_eps: makes more than 127 bins .*; use 0.008 or more"):
        validate(documents)
