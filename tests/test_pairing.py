"""The receivers of a PSI have their rows in one order: each row beside its match, whatever the tables look like."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.differential.psi import JOINING, THREE, TWO, Case, check
from tests.parties import Parties, Processes


@pytest.fixture(scope="module")
def two(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    found = Parties(processes, tmp_path_factory.mktemp("pairing"), ("alice", "bob"), spu_config={})
    yield found
    found.close()


@pytest.fixture(scope="module")
def three(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    found = Parties(processes, tmp_path_factory.mktemp("pairing"), ("alice", "bob", "carol"), spu_config={})
    yield found
    found.close()


def run(parties: Parties, case: Case) -> None:
    for party in case.parties:
        parties.table(party, "table", case.text(party))
    answers = parties.run(case.task())
    outputs = {p: (parties.directory / p / "outputs" / "common.csv").read_text() for p in case.task()["outputs"]}
    check(case, answers, outputs)


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.split("/")]


#: The key is the first column of neither file.
LAST = Case(
    "",
    {"alice": rows("k1 a5/k2 a1/k3 a3"), "bob": rows("k2 b0/k1 b1/k3 b2")},
    {"alice": [1, 0], "bob": [1, 0]},
    {"alice": "needed", "bob": "needed"},
)
#: Each file has the columns of the key in an order of its own.
TWO_KEYS = Case(
    "",
    {"alice": rows("b 1 a0/a 2 a1"), "bob": rows("b 1 b0/a 2 b1")},
    {"alice": [0, 1, 2], "bob": [1, 0, 2]},
    {"alice": "needed", "bob": "needed"},
    keys=2,
)
#: alice's file has quotes around one key.
QUOTED = Case(
    "",
    {"alice": rows("b 1/a 2"), "bob": rows("a x/b y")},
    {"alice": [0, 1], "bob": [0, 1]},
    {"alice": "some", "bob": "needed"},
)
REPEATED = Case(
    "",
    {"alice": rows("k1 a9/k1 a1/k2 a5/k4 a0"), "bob": rows("k1 b3/k2 b9/k1 b1/k1 b2/k3 b0/k2 b1")},
    {"alice": [1, 0], "bob": [0, 1]},
    {"alice": "needed", "bob": "all"},
    repeat=("alice", "bob"),
)


@pytest.mark.parametrize("protocol", TWO)
@pytest.mark.parametrize("case", [LAST, TWO_KEYS, QUOTED], ids=["last", "two", "quoted"])
def test_each_row_is_beside_its_match(two: Parties, case: Case, protocol: str) -> None:
    run(two, Case(**{**vars(case), "protocol": protocol}))


@pytest.mark.parametrize("protocol", JOINING)
@pytest.mark.parametrize("join", ["inner_join", "left_join", "right_join", "full_join", "difference"])
def test_it_is_so_with_keys_that_repeat_and_rows_without_a_match(two: Parties, protocol: str, join: str) -> None:
    run(two, Case(**{**vars(REPEATED), "protocol": protocol, "join": join, "left": "bob"}))


@pytest.mark.parametrize("protocol", THREE)
def test_it_is_so_with_three_parties(three: Parties, protocol: str) -> None:
    case = {**vars(LAST), "rows": LAST.rows | {"carol": rows("k3 c1/k1 c9/k5 c2")}}
    places, quoting = {"alice": [1, 0], "bob": [0, 1], "carol": [1, 0]}, dict.fromkeys(case["rows"], "some")
    run(three, Case(**{**case, "protocol": protocol, "places": places, "quoting": quoting}))
