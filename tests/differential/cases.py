"""What a case is, and columns at random: few rows, empty cells, ties, one value alone, extremes, unicode."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hypothesis import strategies as st

from tests.parties import SMALL_KEYS, Parties, Processes

PARTIES = ("alice", "bob", "carol")
#: Text of a party's output, by party and name.
Output = Callable[[str, str], str]
#: Cells as they are written.
Column = list[str]
#: What cells are of; ``code``: digits that begin with zeros.
KINDS = ("int", "float", "bool", "text", "code")
NUMBERS = ("int", "float", "bool")
EMPTY = ("", "NA", "null", "NaN")
WORDS = ("a", "é", "NA", "null", "x y", "日本", "a,b", 'q"q', "B", "007x")


@dataclass(frozen=True)
class Case:
    #: Dataset to party to its columns.
    tables: Mapping[str, Mapping[str, Mapping[str, Column]]]
    task: Mapping[str, Any]
    parties: tuple[str, ...] = PARTIES[:2]
    #: Documents of devices.
    layers: Mapping[str, Any] = field(default_factory=dict)
    #: Tasks that run before it, in their order, and keep what it reads.
    before: Sequence[Mapping[str, Any]] = ()

    def cells(self, party: str, column: str, dataset: str = "rows") -> Column:
        return self.tables[dataset][party][column]

    def files(self) -> Iterator[tuple[str, str, str]]:
        """Yield party, dataset and text of each table."""
        for dataset, tables in self.tables.items():
            for party, columns in tables.items():
                yield party, dataset, text_of(columns)


@st.composite
def column(draw: Any, rows: int, kind: str, *, empty: bool = True) -> Column:
    """``rows`` cells, some of them empty; often many of one value."""
    fitting = {
        "bool": st.sampled_from(("true", "false")),
        "text": st.sampled_from(WORDS),
        "code": st.sampled_from(("007", "7", "010", "0", "00")),
        "int": draw(st.sampled_from((st.integers(0, 2), st.integers(-9, 9), st.integers(10**9, 10**9 + 50),
                                     st.integers(-(2**40), 2**40)))).map(str),
        "float": draw(st.sampled_from((_floats(1.0), _floats(1e-9), _floats(1e9), st.just("0.1")))),
    }[kind]  # fmt: skip
    if empty and draw(st.booleans()):
        without = st.sampled_from(EMPTY if kind in NUMBERS else ("",))
        fitting = st.one_of(fitting, fitting, without)
    return draw(st.lists(fitting, min_size=rows, max_size=rows))


def _floats(unit: float) -> Any:
    return st.integers(-10000, 10000).map(lambda n: repr(n / 1000 * unit))


def is_empty(cell: str, kind: str) -> bool:
    return cell in EMPTY if kind in NUMBERS else cell == ""


def number(cell: str) -> float:
    """NaN of an empty cell."""
    words = {"true": 1.0, "false": 0.0}
    return float("nan") if cell in EMPTY else words[cell] if cell in words else float(cell)


def kind_found(cells: Sequence[str], kind: str) -> str:
    """What the product takes a column for: one of empty cells alone is text."""
    return "text" if all(cell in EMPTY for cell in cells) else kind


def text_of(columns: Mapping[str, Column]) -> str:
    """A table as CSV."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    # A line of one empty cell would be taken for no line
    return "".join(line if line.strip() else '""\n' for line in made.getvalue().splitlines(keepends=True))


class Runnable(Protocol):
    """What ``Hosts`` need of a case."""

    @property
    def task(self) -> Mapping[str, Any]: ...

    @property
    def parties(self) -> Sequence[str]: ...

    @property
    def layers(self) -> Mapping[str, Any]: ...

    @property
    def before(self) -> Sequence[Mapping[str, Any]]: ...

    def files(self) -> Iterator[tuple[str, str, str]]: ...


class Hosts:
    """Parties that run one case after the other: on a live session, as long as parties and devices stay the same."""

    def __init__(self, processes: Processes, directory: Path) -> None:
        self._processes, self._directory = processes, directory
        self._made: dict[str, Parties] = {}

    def run(self, case: Runnable) -> tuple[dict[str, dict[str, Any]], Output]:
        """Each party's result, and its outputs. Raises AssertionError where the run failed."""
        layers = dict(case.layers) or {"spu_config": {}, "heu_config": SMALL_KEYS}
        key = json.dumps([case.parties, layers])
        if key not in self._made:
            directory = self._directory / str(len(self._made))
            directory.mkdir()
            self._made[key] = Parties(self._processes, directory, case.parties, **layers)
        parties = self._made[key]
        for party, dataset, text in case.files():
            parties.table(party, dataset, text)
        try:
            *_, answers = [parties.run(task) for task in (*case.before, case.task)]
        finally:
            parties.close()  # the ports that this run was given; thousands of runs would hold too many
        return answers, lambda party, name: (parties.directory / party / "outputs" / f"{name}.csv").read_text()


def the_same_at_all(answers: Mapping[str, Mapping[str, Any]], key: str) -> Any:
    """What all parties are told under that key."""
    [first, *others] = [answer[key] for answer in answers.values()]
    assert all(other == first for other in others)
    return first
