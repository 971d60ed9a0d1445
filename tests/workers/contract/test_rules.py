"""Every rule of the four documents, from the table in tests.rules, and that the table has every rule."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import workers
from tests.rules import RULES
from tests.rules.base import Rule, changed, problems
from workers.contract import problems as wording
from workers.contract.problems import Problem

WORKERS = Path(workers.__file__).parent
CONTRACT = ("checks", "documents", "endpoints", "problems", "roles", "validation")
#: Where rules live.
MODULES = [
    *(WORKERS / "contract" / f"{name}.py" for name in CONTRACT),
    *sorted((WORKERS / "components").glob("*.py")),
    *sorted((WORKERS / "devices").glob("*.py")),
    # Not what looks at results: no document comes there
    *sorted(path for path in (WORKERS / "executors").glob("*.py") if path.stem != "results"),
]
Place = tuple[str, int]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_it_accepts_the_right_value_and_names_the_wrong_one(rule: Rule) -> None:
    documents = rule.base()
    assert problems(changed(documents, rule.path, rule.good), rule.known_good or rule.known) == {}
    found = problems(changed(documents, rule.path, rule.bad), rule.known)
    assert rule.where in found
    assert rule.says in found[rule.where]


def test_the_table_has_every_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    made: set[Place] = set()
    ran: set[Place] = set()
    kinds: set[str] = set()
    make, word = Problem.__init__, wording._wording

    def making(self: Problem, *args: Any, **kwargs: Any) -> None:
        caller = sys._getframe(1)
        made.add((caller.f_code.co_filename, caller.f_lineno))
        make(self, *args, **kwargs)

    def worded(entry: Any, model: Any) -> tuple[str, str]:
        kinds.add(entry["type"])
        return word(entry, model)

    monkeypatch.setattr(Problem, "__init__", making)
    monkeypatch.setattr(wording, "_wording", worded)
    for rule in RULES:
        with _lines_into(ran):
            problems(changed(rule.base(), rule.path, rule.bad), rule.known)

    missing = []
    for path in MODULES:
        for first, last, needs_call in _places(path):
            seen = made if needs_call else ran
            if not any((str(path), line) in seen for line in range(first, last + 1)):
                missing.append(f"{path.relative_to(WORKERS.parent)}:{first}")
    missing += [f"problems._SHOULD_BE[{kind!r}]" for kind in set(wording._SHOULD_BE) - kinds]
    assert not missing, "no rule of the table fails here: " + ", ".join(sorted(missing))


def _places(path: Path) -> Iterator[tuple[int, int, bool]]:
    """First and last line of each place that finds something wrong; and whether it is a call that makes a Problem."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem":
            yield node.lineno, node.end_lineno or node.lineno, True
        if isinstance(node, ast.Raise) and "ValueError" in ast.unparse(node):
            yield node.lineno, node.end_lineno or node.lineno, False
        if isinstance(node, ast.FunctionDef) and node.name == "_wording":
            for step in ast.walk(node):
                if isinstance(step, ast.Return):
                    yield step.lineno, step.end_lineno or step.lineno, False


class _lines_into:
    """Notes the lines of MODULES that run."""

    FILES = frozenset(map(str, MODULES))

    def __init__(self, ran: set[Place]) -> None:
        self.ran = ran

    def __enter__(self) -> None:
        self.before = sys.gettrace()
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self.before)

    def _call(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename in self.FILES else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        if event == "line":
            self.ran.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line
