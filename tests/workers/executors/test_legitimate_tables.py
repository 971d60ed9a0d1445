"""Tables as people have them, in real runs of two parties: id cards, card numbers, other encodings and formats, no
rows."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.parties import Parties, Processes

pytestmark = pytest.mark.pipeline


@pytest.fixture
def parties(processes: Processes, tmp_path: Path) -> Iterator[Parties]:
    found = Parties(processes, tmp_path, ["alice", "bob"], spu_config={})
    yield found
    found.close()


def psi(key: str, **more: Any) -> dict[str, Any]:
    params = {"input_keys": {"alice": [key], "bob": [key]}, "receivers": ["alice", "bob"], **more}
    return {
        "task_type": "psi",
        "data_sources": {"alice": "people", "bob": "people"},
        "outputs": {"alice": "common", "bob": "common"},
        "algorithm_params": {"psi_params": params},
    }


def rows(parties: Parties, party: str, name: str = "common") -> list[list[str]]:
    return pd.read_csv(parties.directory / party / "outputs" / f"{name}.csv", dtype=str).to_numpy().tolist()


def test_id_cards_of_which_one_party_has_digits_alone(parties: Parties) -> None:
    parties.table("alice", "people", "idcard,a\n11010119900307123X,1\n110101199003071240,2\n110101199003071259,3\n")
    parties.table("bob", "people", "idcard,b\n110101199003071259,x\n110101199003071240,y\n")
    parties.options["bob", "people"] = 'types = {idcard = "str"}'
    result = parties.run(psi("idcard"))
    mine, theirs = rows(parties, "alice"), rows(parties, "bob")
    assert [row[0] for row in mine] == [row[0] for row in theirs]
    assert {(a[0], a[1], b[1]) for a, b in zip(mine, theirs, strict=True)} == {
        ("110101199003071240", "2", "y"),
        ("110101199003071259", "3", "x"),
    }
    # Also where no X is left, and in the next run
    for party in ("alice", "bob"):
        assert result[party]["outputs"]["common"]["columns"]["idcard"] == "str"
    correlation = {
        "task_type": "correlation",
        "data_sources": {"alice": "common", "bob": "common"},
        "algorithm_params": {"statistics_params": {"columns": {"alice": ["a"], "bob": ["idcard"]}}},
    }
    with pytest.raises(
        AssertionError, match="column 'idcard' of dataset common is not numeric: its declared type is str"
    ):
        parties.run(correlation)


def test_a_type_that_is_registered_on_the_control_plane_holds_in_the_run(parties: Parties) -> None:
    for party in ("alice", "bob"):
        parties.table(party, "people", "card,a\n7,1\n8,2\n")
    parties.column_types["alice"] = {"people": {"card": "str"}}
    result = parties.run(psi("card"))
    assert result["alice"]["outputs"]["common"]["columns"] == {"card": "str", "a": "int"}
    assert result["bob"]["outputs"]["common"]["columns"] == {"card": "int", "a": "int"}
    # What bob's own host says goes before
    parties.column_types["bob"] = {"people": {"card": "str"}}
    parties.options["bob", "people"] = 'types = {card = "float"}'
    assert parties.run(psi("card"))["bob"]["outputs"]["common"]["columns"]["card"] == "float"


def test_card_numbers_of_which_some_are_beyond_64_bits(parties: Parties) -> None:
    parties.table("alice", "people", "card,a\n6222021234567890123,1\n9322021234567890123,2\n")
    parties.table("bob", "people", "card,b\n9322021234567890123,x\n6222021234567890123,y\n")
    result = parties.run(psi("card"))
    assert [[*a, b[1]] for a, b in zip(rows(parties, "alice"), rows(parties, "bob"), strict=True)] in (
        [["6222021234567890123", "1", "y"], ["9322021234567890123", "2", "x"]],
        [["9322021234567890123", "2", "x"], ["6222021234567890123", "1", "y"]],
    )
    assert result["alice"]["outputs"]["common"]["columns"] == {"card": "str", "a": "int"}


@pytest.mark.parametrize("protocol", ["PROTOCOL_RR22", "PROTOCOL_ECDH_NPC", "PROTOCOL_KKRT_NPC"])
def test_a_byte_order_mark_and_line_ends_of_windows(parties: Parties, protocol: str) -> None:
    parties.table("alice", "people", b"\xef\xbb\xbfid,a\r\nk1,1\r\nk2,2\r\nk3,3\r\n")
    parties.table("bob", "people", b"id,b\nk3,x\nk2,y\n")
    parties.run(psi("id", protocol=protocol))
    mine, theirs = rows(parties, "alice"), rows(parties, "bob")
    assert [row[0] for row in mine] == [row[0] for row in theirs]
    assert sorted(map(tuple, mine)) == [("k2", "2"), ("k3", "3")]


def test_a_table_in_gbk_with_semicolons(parties: Parties) -> None:
    parties.table("alice", "people", "号码;姓名\nk1;张三\nk2;李,四\n".encode("gbk"))
    parties.options["alice", "people"] = 'encoding = "gb18030"\ndelimiter = ";"'
    parties.table("bob", "people", "号码,b\nk2,x\nk1,y\n")
    result = parties.run(psi("号码"))
    mine, theirs = rows(parties, "alice"), rows(parties, "bob")
    assert {(*a, b[1]) for a, b in zip(mine, theirs, strict=True)} == {("k1", "张三", "y"), ("k2", "李,四", "x")}
    assert [row[0] for row in mine] == [row[0] for row in theirs]
    assert result["alice"]["outputs"]["common"]["columns"] == {"号码": "str", "姓名": "str"}
    work = parties.directory / "alice" / "outputs" / ".work"
    assert list(work.rglob("table_*.csv")) == [], "the converted copy is gone"


def test_a_run_says_what_a_table_looks_like(parties: Parties) -> None:
    parties.table("alice", "people", "id;a\nk1;1\n")
    parties.table("bob", "people", "id,b\nk1,x\n")
    with pytest.raises(AssertionError, match="its fields look separated by semicolons; save it with commas, or set"):
        parties.run(psi("id"))


def test_a_model_on_no_rows(parties: Parties) -> None:
    parties.table("alice", "people", "id,x,c\nk1,1.5,007\nk2,2,008\n")
    parties.table("bob", "people", "id,y\nm1,0\nm2,1\n")
    result = parties.run(psi("id"))
    assert result["alice"]["outputs"]["common"]["columns"] == {"id": "str", "x": "float", "c": "str"}
    assert result["bob"]["outputs"]["common"]["columns"] == {"id": "str", "y": "int"}
    with pytest.raises(AssertionError, match="dataset common has no rows"):
        parties.run(regression("common", ["x"]))


def regression(table: str, features: list[str]) -> dict[str, Any]:
    params = {"features": {"alice": features}, "label": {"party": "bob", "column": "y"}}
    return {
        "task_type": "lr",
        "data_sources": {"alice": table, "bob": table},
        "outputs": {"bob": "predictions"},
        "algorithm_params": {"ml_params": params},
    }


def test_a_feature_that_is_the_same_in_all_rows(parties: Parties) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=60)
    parties.table("alice", "people", pd.DataFrame({"x": x, "one": 1}))
    parties.table("bob", "people", pd.DataFrame({"y": (x > 0).astype(int)}))
    result = parties.run(regression("people", ["x", "one"]))
    said = [warning for party in result.values() for warning in party.get("warnings", [])]
    assert (
        "Feature 'one' of alice has the same value in all rows, so it adds nothing to the model. Leave it out." in said
    )


def test_tables_in_parquet_and_in_several_compressed_files_meet_and_train(parties: Parties) -> None:
    drawn = np.random.default_rng(5)
    keys, x = [f"{number:05}" for number in range(300)], drawn.normal(size=(300, 2))
    mine, theirs = parties.directory / "alice" / "in", parties.directory / "bob"
    for part, rows_of in (("region=north", slice(0, 200)), ("region=south", slice(200, 300))):
        (mine / part).mkdir(parents=True)
        parquet.write_table(pa.table({"nr": keys[rows_of], "x0": x[rows_of, 0]}), mine / part / "0.parquet")
    label = (x.sum(axis=1) > 0).astype(int)
    for number in range(3):
        third = range(number * 100, number * 100 + 100)
        lines = [f"{keys[i]};{x[i, 1]!s};{label[i]}\n".replace(".", ",") for i in third]
        (theirs / f"part{number}.txt.gz").write_bytes(gzip.compress("".join(lines).encode()))
    parties.other_tables["alice", "people"] = 'path = "in"\nrename = {nr = "uid"}\nwhere = {region = ["north"]}'
    parties.other_tables["bob", "people"] = (
        'path = "part*.txt.gz"\ndelimiter = ";"\ndecimal = ","\nheader = ["uid", "x1", "y"]\n'
        'types = {uid = "str", x1 = "float", y = "int"}'
    )
    met = parties.run(psi("uid"))
    assert met["alice"]["intersection_count"] == {"alice": 200}
    assert met["alice"]["outputs"]["common"]["columns"] == {"uid": "str", "x0": "float", "region": "str"}
    assert sorted(row[0] for row in rows(parties, "bob")) == keys[:200]
    trained = parties.run(
        {
            "task_type": "lr",
            "data_sources": {"alice": "common", "bob": "common"},
            "outputs": {"bob": "predictions"},
            "algorithm_params": {
                "ml_params": {
                    "features": {"alice": ["x0"], "bob": ["x1"]},
                    "label": {"party": "bob", "column": "y"},
                    "training_params": {"epochs": 10, "learning_rate": 0.5, "batch_size": 100},
                }
            },
        }
    )
    assert trained["bob"]["metrics"]["auc"] > 0.95
    assert not list((parties.directory / "alice" / "outputs" / ".work").glob("*-1")), "the copy stayed"
