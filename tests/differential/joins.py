"""``data_prep/psi`` and ``psi_tp`` as components against pandas' merge: the rows, and which stand side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from tests.differential import psi
from tests.differential.cases import Output

JOINS = ("inner_join", "left_join", "full_join", "difference")


@dataclass(frozen=True)
class Case(psi.Case):
    """One PSI by a component: of three parties by ``psi_tp``."""

    @property
    def task(self) -> dict[str, Any]:
        tables = {}
        for index, party in enumerate(self.parties, 1):
            *keys, value = self.names(party)
            tables[f"input_ds{index}"] = {"ids": {party: keys}, "features": {party: [value]}}
        attributes: dict[str, Any] = {}
        if len(self.parties) == 2:
            attributes = {"protocol": {"choose": f"PROTOCOL_{self.protocol}"}, "allow_empty_result": True}
            attributes["join_type"] = {"choose": self.join}
            if self.join == "left_join":
                attributes["join_type"]["left_join"] = {"left_side": self.left}
            attributes |= {f"input_ds{i}_keys_duplicated": p in self.repeat for i, p in enumerate(self.parties, 1)}
            attributes["receiver_parties"] = list(self.receivers or self.parties)
        component = "data_prep/psi" if len(self.parties) == 2 else "data_prep/psi_tp"
        return {
            "task_type": "component",
            "data_sources": dict.fromkeys(self.parties, "table"),
            "outputs": dict.fromkeys(self.receivers or self.parties, "common"),
            "algorithm_params": {
                "component_params": {"component": component, "columns": tables, "attributes": attributes}
            },
        }


def of(case: psi.Case) -> Case:
    return Case(**{entry.name: getattr(case, entry.name) for entry in fields(psi.Case)})


@st.composite
def strategy(draw: Any) -> Case:
    found = of(draw(psi.strategy()))
    if len(found.parties) == 2:
        assume(found.protocol in psi.JOINING and found.join in JOINS)
    else:
        assume(found.protocol == "ECDH_3PC" and len(found.receivers) != 1)
        assume(found.expected())  # an empty one is refused
    return found


def examples() -> list[Case]:
    """What psi once paired wrongly; and keys that are numbers to one party and texts to the other."""
    found = [of(case) for case in psi.examples() if case.protocol in ("RR22", "ECDH_3PC") and case.join in JOINS]
    places, quoting = {"alice": [0, 1], "bob": [0, 1]}, dict.fromkeys(("alice", "bob"), "needed")
    for key, other in (("1e3", "-2.5"), ("true", "false"), ("+5", "7"), ("'a'", "a"), ("'", "b")):
        rows = {"alice": [[key, "a0"], [other, "a1"]], "bob": [["x", "b0"], [key, "b1"]]}
        found.append(Case("RR22", rows, places, quoting))
    return found


def check(case: Case, answers: Mapping[str, Mapping[str, Any]], output: Output) -> None:
    receivers = case.receivers or tuple(case.parties)
    found = [psi.read(output(party, "common"), case.names(party)) for party in receivers]
    assert len({len(rows) for rows in found}) == 1, "the receivers have unlike numbers of rows"
    # Which order the rows have is not promised, only that it is one: so lines of both are compared as pairs
    assert sorted(zip(*found, strict=True), key=repr) == sorted(case.expected(), key=repr)
