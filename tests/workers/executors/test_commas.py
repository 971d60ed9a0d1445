"""Commas and quotes in the tables of a PSI, with two real parties: the same rows as a merge, whatever the protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest

from tests.parties import Parties, Processes

NAMES = ("alice", "bob")
#: Pairs of columns that are alike if only their commas are looked at, and some that are the same at both.
ALICE = pd.DataFrame({"k": ["a", "x", "say, hi", 'a "q"', "c"], "l": ["b,c", "y", "1", "2", "3"]})
BOB = pd.DataFrame({"k": ["a,b", "x", "say, hi", 'a "q"', "d"], "l": ["c", "y", "1", "2", "3"]})


@pytest.fixture(scope="module")
def parties(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    found = Parties(processes, tmp_path_factory.mktemp("commas"), NAMES, spu_config={})
    found.table("alice", "quoted", ALICE.assign(**{"city, country": [f'"{i}", or {i}' for i in range(5)]}))
    found.table("bob", "quoted", BOB)
    found.table("bob", "plain", BOB[["k", "l"]][1:2])
    yield found
    found.close()


@pytest.mark.parametrize("keys", [["k"], ["k", "l"]], ids=len)
@pytest.mark.parametrize("protocol", ["RR22", "ECDH", "KKRT", "ECDH_NPC", "KKRT_NPC", "unbalanced"])
def test_commas_and_quotes_are_parts_of_values(parties: Parties, protocol: str, keys: list[str]) -> None:
    input_keys = dict.fromkeys(NAMES, keys)
    if protocol == "unbalanced":
        task = {"task_type": "unbalanced_psi", "outputs": {"alice": "common"}}
        params = {"unbalanced_psi_params": {"input_keys": input_keys, "client": "alice"}}
    else:
        task = {"task_type": "psi", "outputs": {"alice": "common", "bob": "common"}}
        psi_params = {"input_keys": input_keys, "receivers": list(NAMES), "protocol": f"PROTOCOL_{protocol}"}
        params = {"psi_params": psi_params}
    parties.run({**task, "data_sources": dict.fromkeys(NAMES, "quoted"), "algorithm_params": params})
    table = pd.read_csv(parties.directory / "alice" / "quoted.csv", dtype=str)
    expected = table.merge(BOB[keys], on=keys).sort_values(keys, ignore_index=True)
    found = pd.read_csv(parties.directory / "alice" / "outputs" / "common.csv", dtype=str)
    pd.testing.assert_frame_equal(found.sort_values(keys, ignore_index=True), expected)
    assert len(expected) == 3


def test_a_row_without_a_match_is_empty(parties: Parties) -> None:
    """Beside a table without any quotes, in which a key of the same text is the same key."""
    params = {
        "psi_params": {
            "input_keys": {name: ["k", "l"] for name in NAMES},
            "receivers": list(NAMES),
            "join_type": "left_join",
            "left_side": "alice",
        }
    }
    parties.run(
        {
            "task_type": "psi",
            "data_sources": {"alice": "quoted", "bob": "plain"},
            "outputs": dict.fromkeys(NAMES, "joined"),
            "algorithm_params": params,
        }
    )
    alice, bob = (parties.output(party, "joined") for party in NAMES)
    assert sorted(alice.k) == sorted(ALICE.k)
    assert list(alice.k[bob.k.notna()]) == ["x"]
