"""The components of PSI pair rows as the task type psi does, whatever the tables look like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from tests.parties import Parties, Processes

#: Keys with blanks sort in another order inside quotes than without them.
ALICE = 'a,id\na5,k1\na1,k2\na3,"k 1"\na7,k9\n'
BOB = "b,id\nb0,k2\nb1,k1\nb2,k 1\nb4,k8\n"
CAROL = 'id,c\n"k1",c0\n"k2",c1\n"k 1",c2\n'
TABLES = {"alice": ALICE, "bob": BOB, "carol": CAROL}
MATCHES = {("a5", "b1", "c0"), ("a1", "b0", "c1"), ("a3", "b2", "c2")}


def parties_of(processes: Processes, directory: Any, names: tuple[str, ...]) -> Parties:
    found = Parties(processes, directory, names, spu_config={})
    for name in names:
        found.table(name, "table", TABLES[name])
    return found


@pytest.fixture(scope="module")
def two(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    found = parties_of(processes, tmp_path_factory.mktemp("two"), ("alice", "bob"))
    yield found
    found.close()


def task(names: tuple[str, ...], component: str, columns: Any, attributes: Any, **more: Any) -> dict[str, Any]:
    return {
        "task_type": "component",
        "data_sources": dict.fromkeys(names, "table"),
        "algorithm_params": {
            "component_params": {"component": component, "columns": columns, "attributes": attributes}
        },
    } | more


def table(party: str) -> dict[str, Any]:
    return {"features": {party: [party[0]]}, "ids": {party: ["id"]}}


def paired(parties: Parties, names: tuple[str, ...], output: str = "common") -> list[tuple[str, ...]]:
    """Each row's own values, side by side as the outputs have them."""
    columns = [list(parties.output(name, output)[name[0]]) for name in names]
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("protocol", ["PROTOCOL_RR22", "PROTOCOL_ECDH", "PROTOCOL_KKRT"])
def test_psi(two: Parties, protocol: str) -> None:
    attributes = {
        "protocol": {"choose": protocol},
        "input_ds1_keys_duplicated": False,
        "input_ds2_keys_duplicated": False,
        "sort_result": False,  # the parts of a vertical table line up whatever is said
    }
    columns = {"input_ds1": table("alice"), "input_ds2": table("bob")}
    names = ("alice", "bob")
    two.run(task(names, "data_prep/psi", columns, attributes, outputs=dict.fromkeys(names, "common")))
    found = paired(two, names)
    assert len(found) == 3
    assert set(found) == {row[:2] for row in MATCHES}


def test_psi_of_keys_that_repeat_with_rows_without_a_match(two: Parties) -> None:
    two.table("alice", "again", "a,id\na1,k1\na2,k1\na3,k3\n")
    two.table("bob", "again", "b,id\nb1,k2\nb2,k1\nb3,k1\nb4,k1\n")
    columns = {"input_ds1": table("alice"), "input_ds2": table("bob")}
    names, attributes = ("alice", "bob"), {"join_type": {"choose": "full_join"}}
    more = {"data_sources": dict.fromkeys(names, "again"), "outputs": dict.fromkeys(names, "common")}
    two.run(task(names, "data_prep/psi", columns, attributes, **more))
    found = [tuple("" if value != value else value for value in row) for row in paired(two, names)]
    assert sorted(found) == sorted(
        [("a1", "b2"), ("a1", "b3"), ("a1", "b4"), ("a2", "b2"), ("a2", "b3"), ("a2", "b4"), ("a3", ""), ("", "b1")]
    )


def test_psi_of_three(processes: Processes, tmp_path: Any) -> None:
    names = ("alice", "bob", "carol")
    parties = parties_of(processes, tmp_path, names)
    columns = {f"input_ds{index}": table(name) for index, name in enumerate(names, 1)}
    outputs = dict.fromkeys(names, "common")
    parties.run(task(names, "data_prep/psi_tp", columns, {"ecdh_curve": {"choose": "CURVE_25519"}}, outputs=outputs))
    found = paired(parties, names)
    assert len(found) == 3
    assert set(found) == MATCHES
    parties.close()


def test_psi_of_three_keeps_texts_and_empty_cells_as_they_are(processes: Processes, tmp_path: Any) -> None:
    names = ("alice", "bob", "carol")
    parties = parties_of(processes, tmp_path, names)
    for name in names:
        parties.table(name, "table", f"{name[0]},n,id\nNA,1,k1\n,2,k2\nnull,,k3\nNULL,4,k4\n")
    columns = {
        f"input_ds{index}": {"features": {name: [name[0], "n"]}, "ids": {name: ["id"]}}
        for index, name in enumerate(names, 1)
    }
    parties.run(task(names, "data_prep/psi_tp", columns, {}, outputs=dict.fromkeys(names, "common")))
    for name in names:
        found = pd.read_csv(parties.directory / name / "outputs" / "common.csv", dtype=str, keep_default_na=False)
        rows = {row["id"]: (row[name[0]], row["n"]) for _, row in found.iterrows()}
        assert rows == {"k1": ("NA", "1"), "k2": ("", "2"), "k3": ("null", ""), "k4": ("NULL", "4")}
    parties.close()


def test_unbalanced_psi_for_both(two: Parties) -> None:
    names = ("alice", "bob")
    cached = {"data_sources": {"alice": "table"}, "outputs": dict.fromkeys(names, "cache")}
    two.run(task(names, "data_prep/unbalance_psi_cache", {"input_ds": table("alice")}, {"client": "bob"}, **cached))
    more = {
        "data_sources": {"bob": "table"},
        "further_sources": {"cache": dict.fromkeys(names, "cache")},
        "outputs": dict.fromkeys(names, "common"),
    }
    columns, attributes = {"client_ds": table("bob")}, {"receiver_parties": list(names)}
    two.run(task(names, "data_prep/unbalance_psi", columns, attributes, **more))
    assert set(paired(two, names)) == {row[:2] for row in MATCHES}


@pytest.mark.parametrize("party", ["alice", "bob"])
def test_unbalanced_psi_refuses_keys_that_it_would_pair_wrongly(two: Parties, party: str) -> None:
    names = ("alice", "bob")
    two.table(party, "commas", f'{party[0]},id\n1,"a,c"\n2,"a,b"\n')
    component, role = ("data_prep/unbalance_psi_cache", "input_ds")
    attributes: dict[str, Any] = {"client": "bob"}
    more: dict[str, Any] = {"data_sources": {party: "commas"}, "outputs": dict.fromkeys(names, "wrong")}
    if party == "bob":
        component, role, attributes = "data_prep/unbalance_psi", "client_ds", {"receiver_parties": list(names)}
        more["further_sources"] = {"cache": dict.fromkeys(names, "cache")}
    with pytest.raises(AssertionError, match=r"column 'id' of dataset commas has commas or quotes.*unbalanced_psi"):
        two.run(task(names, component, {role: table(party)}, attributes, **more))
