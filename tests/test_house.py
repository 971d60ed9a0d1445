"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from controlplane.environment import ROOT

PACKAGES = ("controlplane", "executions", "workers", "client/src/secretflow_controlplane_client")
#: What is not to be imported inside a function.
OURS = (*(package.rpartition("/")[2] for package in PACKAGES), "fixtures", "tests")
#: Files longer than this do not fit in a head.
MOST_LINES = 400


def modules() -> list[Path]:
    found = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [path for path in found if "migrations" not in path.parts]


def test_modules_import_each_other_at_their_tops() -> None:
    """An import inside a function hides a circle. Modules of other packages may be imported late, so that SecretFlow
    and what is as heavy stays out of a process: import-linter's contract on SecretFlow has the list."""
    wrong = []
    for path in modules():
        tree = ast.parse(path.read_text())
        wrong += [f"{path}:{line}: {name}" for line, name in late(tree) if name.split(".")[0] in OURS]
        code = [i for i, node in enumerate(tree.body) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        below = tree.body[min(code, default=len(tree.body)) :]
        wrong += [f"{path}:{node.lineno}" for node in below if isinstance(node, ast.Import | ast.ImportFrom)]
    assert wrong == []


def late(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and module of the imports inside functions."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom):
                    # A relative import is one of ours, whatever it is called
                    yield node.lineno, OURS[0] if node.level else node.module or ""
                elif isinstance(node, ast.Import):
                    yield from ((node.lineno, alias.name) for alias in node.names)


def test_each_file_fits_in_a_head() -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in modules()}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_texts_of_the_parties_logs_are_constants() -> None:
    """What stands in their gaps leaves a party's host only as far as its policy allows; what was put into the text
    itself would leave it in any case (workers/runtime/told_lines.py)."""
    wrong = []
    for path in modules():
        if path.relative_to(ROOT).parts[0] != "workers":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            logger, method = node.func.value, node.func.attr
            name = logger.attr if isinstance(logger, ast.Attribute) else getattr(logger, "id", "")
            if name != "log" or method not in ("debug", "info", "warning", "error", "exception", "log"):
                continue
            text = node.args[method == "log"] if len(node.args) > (method == "log") else None
            if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
                wrong.append(f"{path}:{node.lineno}")
    assert wrong == []
