"""``unbalanced_psi``: the client's rows that the other has too, as they are written, in the order of its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.differential import psi
from tests.differential.cases import Output


@dataclass(frozen=True)
class Case(psi.Case):
    """One unbalanced PSI, of a client."""

    client: str = "alice"

    @property
    def task(self) -> dict[str, Any]:
        """Of the task type ``unbalanced_psi``."""
        keys = {party: self.names(party)[: self.keys] for party in self.parties}
        return {
            "task_type": "unbalanced_psi",
            "data_sources": dict.fromkeys(self.parties, "table"),
            "outputs": {self.client: "common"},
            "algorithm_params": {"unbalanced_psi_params": {"input_keys": keys, "client": self.client}},
        }


def _of(case: psi.Case, client: str) -> Case:
    return Case("", case.rows, case.places, case.quoting, case.keys, endings=case.endings, client=client)


@st.composite
def strategy(draw: st.DrawFn) -> Case:
    """Return two tables in all forms that a CSV file may have, no key of which occurs twice."""
    found = draw(psi.strategy().filter(lambda case: len(case.rows) == 2 and not case.repeat))
    return _of(found, draw(st.sampled_from(found.parties)))


def examples() -> Iterator[Case]:
    """Yield what PSI once paired wrongly."""
    for case in (psi._LAST, psi._TWO_KEYS, psi._QUOTED):
        yield from (_of(case, client) for client in case.parties)


def check(case: Case, answers: Mapping[str, Mapping[str, Any]], output: Output) -> None:
    [server] = [party for party in case.parties if party != case.client]
    known = {tuple(row[: case.keys]) for row in case.rows[server]}
    expected = [tuple(row) for row in case.rows[case.client] if tuple(row[: case.keys]) in known]
    assert psi.read(output(case.client, "common"), case.names(case.client)) == expected
    assert answers[case.client]["output_rows"] == {case.client: len(expected)}
    assert "output_rows" not in answers[server]
