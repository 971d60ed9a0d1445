"""Texts whose gaps hold what is of one host alone."""

from __future__ import annotations

import ast
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.test_house import modules
from workers.contract.errors import ERRORS, ConfigError
from workers.contract.problems import DocumentsInvalid, Problem
from workers.contract.wording import Quoted, Text, hint


def only(*words: str) -> Any:
    return lambda word: word in words


@pytest.mark.parametrize(
    ("text", "whole", "told"),
    [
        (Text("as it is, {x}"), "as it is, {x}", "as it is, {x}"),
        (Text("{} rows of {!r}", 1234, "a"), "1234 rows of 'a'", "1234 rows of 'a'"),
        (Text("{:,} rows of {!r}", 1234, "b"), "1,234 rows of 'b'", "1,234 rows of (not told)"),
        (Text("{} and {}", ["a", "b"], Path("/x")), "a, b and /x", "a, (not told) and (not told)"),
        (Text("{{}}: {!r}", ["a"]), "{}: 'a'", "{}: 'a'"),
        (Text("{}: {}", Text("fixed"), Text("of {}", "b")), "fixed: of b", "fixed: of (not told)"),
        (Text("x{}", Text("; known: {}", ["a", "b"], optional=True)), "x; known: a, b", "x"),
        (Text("{:.3g}", 0.12345), "0.123", "0.123"),
        (Text("{}", Quoted("a")), "a", "a"),
    ],
)
def test_a_text_is_told_without_what_may_not_be(text: Text, whole: str, told: str) -> None:
    assert str(text) == whole
    assert text.told(only("a")) == told
    again = Text.from_json(json.loads(json.dumps(text.as_json())))
    assert (str(again), again.told(only("a"))) == (whole, told)


def test_an_error_is_told_without_what_may_not_be() -> None:
    error = ConfigError("dataset {} has no column {!r}; {}", "a", "b", hint("x", ["c", "d"]))
    assert str(error) == "dataset a has no column 'b'; known: c, d"
    assert error.told(only("a")) == "dataset a has no column (not told)"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_problem_is_told_without_what_the_catalogue_has() -> None:
    problem = Problem("a.b", "there is no 'x'", "did you mean 'y'?", "name one that is there")
    error = DocumentsInvalid([problem.under("task")])
    assert str(error) == "task.a.b: there is no 'x'; did you mean 'y'?"
    assert error.told(only()) == "task.a.b: there is no 'x'; name one that is there"


#: These name peers, ports and what is of the machine; worker.py's are shown on its host alone.
ELSEWHERE = ("workers/network", "workers/devices", "workers/runtime/worker.py", "workers/runtime/publisher.py")


def test_names_stand_in_gaps() -> None:
    """What a message has outside of its gaps is told to everybody, so it may only be what is written in the program."""
    wrong = []
    for path in modules():
        name = path.relative_to(Path(__file__).parents[3]).as_posix()
        if not name.startswith("workers/") or name.startswith(ELSEWHERE):
            continue
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ERRORS:
                wrong += [f"{name}:{call.lineno}" for text in call.args[:1] if not is_written_here(text)]
    assert wrong == []


def is_written_here(text: ast.expr) -> bool:
    if isinstance(text, ast.Call):
        return ast.unparse(text.func) in ("Text", "Text.from_json")
    if isinstance(text, ast.IfExp):
        return is_written_here(text.body) and is_written_here(text.orelse)
    return isinstance(text, ast.Constant) or (isinstance(text, ast.Name) and text.id.isupper())
