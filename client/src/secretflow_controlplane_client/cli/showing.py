"""Executions and results as text, tables, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from secretflow_controlplane_client.models import Execution

out = Console(highlight=False)
_COLOURS = {
    "SUCCESS": "green",
    "FAILURE": "bold red",
    "CANCELLED": "dim",
    "CANCELLING": "yellow",
    "RETRY": "yellow",
    "AWAITING_APPROVAL": "yellow",
    "QUEUED": "magenta",
}
#: What a spreadsheet would take for a formula, and run.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


class Grid(NamedTuple):
    """A table of a result."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def coloured(status: str) -> Text:
    """Return a status in its colour."""
    return Text(status, style=_COLOURS.get(status, "cyan"))


def as_json(data: Any) -> None:
    """Print JSON for other programs."""
    print_plain(json.dumps(data, indent=2, ensure_ascii=False))


def print_plain(text: str) -> None:
    """Print a text as it is: neither wrapped nor coloured."""
    out.file.write(text + "\n")


def listed(executions: Sequence[Execution]) -> None:
    """Print executions, a line each."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("id", "name", "status", "parties", "submitted", "seconds"):
        table.add_column(heading, no_wrap=heading == "id")
    for one in executions:
        seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
        table.add_row(
            one.id, Text(one.title), coloured(one.status), Text(", ".join(one.parties)), moment(one.created_at), seconds
        )
    out.print(table)


def moment(at: datetime | None) -> str:
    """Return a time as the reader's clock shows it."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}" if at else ""


def grids(result: dict[str, Any]) -> Iterator[Grid]:
    """Yield the tables of a result: first its figures, each by its name, then the tables of its reports."""
    figures: list[tuple[str, Any]] = []
    found: list[Grid] = []
    _collect("", result, figures, found)
    if figures or not found:
        yield Grid("figures", ("name", "value"), figures)
    yield from found


def _collect(path: str, value: Any, figures: list[tuple[str, Any]], found: list[Grid]) -> None:
    if isinstance(value, dict) and isinstance(value.get("columns"), list) and _is_table(value.get("rows")):
        found.append(Grid(path or "table", [str(c) for c in value["columns"]], value["rows"]))
    elif isinstance(value, dict):
        for name, inner in value.items():
            _collect(f"{path}.{name}" if path else str(name), inner, figures, found)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            step = str(number)
            if isinstance(inner, dict) and isinstance(inner.get("name"), str):
                step = inner["name"]
                inner = {key: one for key, one in inner.items() if key != "name"}
            _collect(f"{path}.{step}" if path else step, inner, figures, found)
    else:
        figures.append((path, value))


def _is_table(rows: Any) -> bool:
    return isinstance(rows, list) and bool(rows) and all(isinstance(row, list) for row in rows)


def shown(result: dict[str, Any]) -> None:
    """Print a result for people."""
    for grid in grids(result):
        table = Table(title=Text(grid.title), title_justify="left", header_style="dim")
        for column in grid.columns:
            table.add_column(Text(column))
        for row in grid.rows:
            table.add_row(*(Text(f"{cell:.6g}" if isinstance(cell, float) else _text(cell)) for cell in row))
        out.print(table)


def as_csv(result: dict[str, Any]) -> None:
    """Print a result as CSV, with all digits; an empty line and a title stand before each table after the first."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    for number, grid in enumerate(grids(result)):
        if number:
            writer.writerows([[], [_cell(grid.title)]])
        writer.writerow([_cell(name) for name in grid.columns])
        writer.writerows([_cell(value) for value in row] for row in grid.rows)
    print_plain(made.getvalue().removesuffix("\n"))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _cell(value: Any) -> Any:
    text = _text(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULAS) else text
