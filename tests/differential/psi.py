"""PSI against pandas' merge: the same rows at each receiver, as they are written, and each with its match."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from hypothesis import strategies as st

from tests.differential.cases import Output

TWO = ("RR22", "ECDH", "KKRT", "ECDH_NPC", "KKRT_NPC")
THREE = ("ECDH_3PC", "ECDH_NPC", "KKRT_NPC")
JOINING = ("RR22", "ECDH", "KKRT")
#: Short, so that parties have keys in common, and each of a kind that some reader may take for something else.
TEXTS = (
    "a", "b", "A", "1", "01", "1.0", "-1", "10", "9", "a b", "a,b", "b,c", 'a"b', '"', "%2C", "%", "%/",
    "é", "ß", "漢字",
    "NA", "null", "NULL", "nan", "true", "0", " a", "a ", "-", "--1", "key", "\ufeffa", "11010119900307123X",
    "9223372036854775808", "1e3", "2024-01-01", ";", "\\", "'",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One PSI: each party's rows and how its file writes them."""

    protocol: str
    #: For each party its rows, (rows, keys + 1): the key's columns, then a value of its own.
    rows: dict[str, list[list[str]]]
    #: For each party the order in which its file has these columns.
    places: dict[str, list[int]]
    #: Quotes around each value, or around those that need them, or also around some others.
    quoting: dict[str, str]
    keys: int = 1
    join: str = "inner_join"
    left: str = "alice"
    receivers: tuple[str, ...] = ()
    repeat: tuple[str, ...] = ()
    endings: dict[str, str] = field(default_factory=dict)
    before: tuple[dict[str, Any], ...] = ()

    @property
    def parties(self) -> list[str]:
        return list(self.rows)

    @property
    def layers(self) -> dict[str, Any]:
        return {"spu_config": {}}

    def files(self) -> Iterator[tuple[str, str, str]]:
        for party in self.parties:
            yield party, "table", self.text(party)

    def names(self, party: str) -> list[str]:
        """Columns in the order of ``rows``: the keys' names differ from party to party."""
        return [f"{party[0]}_key{index}" for index in range(self.keys)] + [f"{party[0]}_value"]

    def text(self, party: str) -> str:
        """Return the party's file."""
        draw = random.Random(party)
        end = self.endings.get(party, "\n")
        lines = [self.names(party), *self.rows[party]]
        found = []
        for line in lines:
            values = []
            for place in self.places[party]:
                value = line[place]
                needs = any(c in value for c in ',"\r\n') or not value
                how = self.quoting[party]
                quoted = needs or how == "all" or (how == "some" and draw.random() < 0.5)
                values.append('"' + value.replace('"', '""') + '"' if quoted else value)
            found.append(",".join(values))
        return end.join(found) + end

    @property
    def task(self) -> dict[str, Any]:
        """Of the task type ``psi``."""
        params: dict[str, Any] = {
            "input_keys": {party: self.names(party)[: self.keys] for party in self.parties},
            "protocol": f"PROTOCOL_{self.protocol}",
            "receivers": list(self.receivers or self.parties),
            "join_type": self.join,
            "duplicate_keys": list(self.repeat),
        }
        if self.join in ("left_join", "right_join"):
            params["left_side"] = self.left
        return {
            "task_type": "psi",
            "data_sources": dict.fromkeys(self.parties, "table"),
            "outputs": dict.fromkeys(self.receivers or self.parties, "common"),
            "algorithm_params": {"psi_params": params},
        }

    def expected(self) -> list[tuple[Any, ...]]:
        """Return the joined rows, each with every receiver's columns: "" for what a party does not have."""
        keys = [f"key{index}" for index in range(self.keys)]
        frames = {p: pd.DataFrame(self.rows[p], columns=[*keys, f"value_{p}"], dtype=str) for p in self.parties}
        how = {"inner_join": "inner", "full_join": "outer", "difference": "outer"}.get(self.join, "inner")
        first, *others = self.parties
        if self.join in ("left_join", "right_join"):
            is_left = (self.join == "left_join") == (self.left == first)
            how = "left" if is_left else "right"
        joined = frames[first].assign(**{f"in_{first}": True})
        for other in others:
            joined = joined.merge(frames[other].assign(**{f"in_{other}": True}), on=keys, how=how)
        if self.join == "difference":
            joined = joined[joined[[f"in_{p}" for p in self.parties]].isna().any(axis=1)]
        receivers = self.receivers or tuple(self.parties)
        found = []
        for row in joined.to_dict("records"):
            mine: list[Any] = []
            for party in receivers:
                is_here = row[f"in_{party}"] is True
                mine.append((*(row[k] for k in keys), row[f"value_{party}"]) if is_here else None)
            if any(part is not None for part in mine) or len(receivers) > 1:
                found.append(tuple(mine))
        return found


def read(text: str, names: Sequence[str]) -> list[tuple[str, ...] | None]:
    """Return an output's rows in the order of ``names``; None for an empty one."""
    lines = list(csv.reader(io.StringIO(text, newline="")))
    assert sorted(lines[0]) == sorted(names)
    at = [lines[0].index(name) for name in names]
    rows = [tuple(line[place] for place in at) for line in lines[1:]]
    return [None if not any(row) else row for row in rows]


def check(case: Case, answers: Mapping[str, Mapping[str, Any]], output: Output) -> None:
    """Compare the receivers' outputs, put side by side line by line, with the merge. Raises AssertionError."""
    receivers = case.receivers or tuple(case.parties)
    found = [read(output(party, "common"), case.names(party)) for party in receivers]
    assert len({len(rows) for rows in found}) == 1, "the receivers have unlike numbers of rows"
    # Which order the rows have is not promised, only that it is one: so lines of both are compared as pairs
    pairs = sorted(zip(*found, strict=True), key=repr)
    expected = sorted(case.expected(), key=repr)
    assert pairs == expected, f"{pairs} is not {expected}"
    for party, rows in zip(receivers, found, strict=True):
        assert answers[party]["output_rows"] == {party: len(rows)}
    for party in receivers:
        in_common = sum(all(part is not None for part in pair) for pair in case.expected())
        if case.join == "difference":
            [other] = [p for p in case.parties if p != party]
            known = {tuple(row[: case.keys]) for row in case.rows[other]}
            in_common = sum(tuple(row[: case.keys]) in known for row in case.rows[party])
        if len(receivers) > 1 or case.join == "difference":
            assert answers[party]["intersection_count"] == {party: in_common}


@st.composite
def strategy(draw: st.DrawFn) -> Case:
    """Return PSIs of two or three parties over small tables, in all forms that a CSV file may have."""
    three = draw(st.integers(0, 4)) == 0
    parties = ["alice", "bob", "carol"] if three else ["alice", "bob"]
    protocol = draw(st.sampled_from(THREE if three else TWO))
    join, repeat, left = "inner_join", [], "alice"
    if protocol in JOINING:
        join = draw(st.sampled_from(["inner_join", "inner_join", "left_join", "right_join", "full_join", "difference"]))
        repeat = [p for p in parties if draw(st.integers(0, 2)) == 0]
        left = draw(st.sampled_from(parties))
    keys = draw(st.integers(1, 3 if not three else 2))
    texts = st.sampled_from(draw(st.lists(st.sampled_from(TEXTS), min_size=2, max_size=8, unique=True)))
    rows, places, quoting, endings = {}, {}, {}, {}
    for party in parties:
        key = st.lists(texts, min_size=keys, max_size=keys).map(tuple)
        many = draw(st.integers(0, 9)) == 0
        unique = party not in repeat
        found = draw(st.lists(key, min_size=1, max_size=60 if many else 9, unique=unique))
        rows[party] = [[*key_, f"{party[0]}{index}"] for index, key_ in enumerate(found)]
        places[party] = draw(st.permutations(range(keys + 1)))
        quoting[party] = draw(st.sampled_from(["needed", "all", "some"]))
        endings[party] = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    receivers = tuple(parties) if draw(st.integers(0, 3)) else (draw(st.sampled_from(parties)),)
    return Case(
        protocol, rows, {p: list(v) for p, v in places.items()}, quoting,
        keys, join, left, receivers, tuple(repeat), endings,
    )  # fmt: skip


def _rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.split("/")]


#: The key is the first column of neither file.
_LAST = Case(
    "",
    {"alice": _rows("k1 a5/k2 a1/k3 a3"), "bob": _rows("k2 b0/k1 b1/k3 b2")},
    {"alice": [1, 0], "bob": [1, 0]},
    {"alice": "needed", "bob": "needed"},
)
#: Each file has the columns of the key in an order of its own.
_TWO_KEYS = Case(
    "",
    {"alice": _rows("b 1 a0/a 2 a1"), "bob": _rows("b 1 b0/a 2 b1")},
    {"alice": [0, 1, 2], "bob": [1, 0, 2]},
    {"alice": "needed", "bob": "needed"},
    keys=2,
)
#: alice's file has quotes around one key.
_QUOTED = Case(
    "",
    {"alice": _rows("b 1/a 2"), "bob": _rows("a x/b y")},
    {"alice": [0, 1], "bob": [0, 1]},
    {"alice": "some", "bob": "needed"},
)
_REPEATED = Case(
    "",
    {"alice": _rows("k1 a9/k1 a1/k2 a5/k4 a0"), "bob": _rows("k1 b3/k2 b9/k1 b1/k1 b2/k3 b0/k2 b1")},
    {"alice": [1, 0], "bob": [0, 1]},
    {"alice": "needed", "bob": "all"},
    repeat=("alice", "bob"),
)


def examples() -> Iterator[Case]:
    """Yield what once paired rows wrongly, with each protocol and join."""
    for case in (_LAST, _TWO_KEYS, _QUOTED):
        yield from (replace(case, protocol=protocol) for protocol in TWO)
    for join in ("inner_join", "left_join", "right_join", "full_join", "difference"):
        yield from (replace(_REPEATED, protocol=protocol, join=join, left="bob") for protocol in JOINING)
    three = _LAST.rows | {"carol": _rows("k3 c1/k1 c9/k5 c2")}
    places, quoting = {"alice": [1, 0], "bob": [0, 1], "carol": [1, 0]}, dict.fromkeys(three, "some")
    yield from (replace(_LAST, protocol=protocol, rows=three, places=places, quoting=quoting) for protocol in THREE)
