"""Turns a component's report into JSON, for the execution's result."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from workers.contract.results import MOST_ROWS


def report(data: Any) -> list[dict[str, Any]]:
    """Return a component's report as JSON: tabs of descriptions and tables."""
    from secretflow_spec.v1.report_pb2 import Report

    found = Report()
    data.meta.Unpack(found)
    # Some names are only in Chinese
    names = [next((n for n in (tab.name, tab.desc, found.name) if n and n.isascii()), "report") for tab in found.tabs]
    return [{"name": name, **dict(_tab(tab))} for name, tab in zip(names, found.tabs, strict=True)]


def _tab(tab: Any) -> Iterator[tuple[str, Any]]:
    values: dict[str, Any] = {}
    tables: list[dict[str, Any]] = []

    def add(div: Any) -> None:
        for child in div.children:
            if child.type == "descriptions":
                values.update({item.name: _value(item.value, item.type) for item in child.descriptions.items})
            elif child.type == "table":
                tables.append(_table(child.table))
            else:
                add(child.div)

    for div in tab.divs:
        add(div)
    if values:
        yield "values", values
    if tables:
        yield "tables", tables


def _table(table: Any) -> dict[str, Any]:
    headers, types = [header.name for header in table.headers], [header.type for header in table.headers]
    rows = [[_value(v, t) for v, t in zip(row.items, types, strict=True)] for row in table.rows[:MOST_ROWS]]
    if any(row.name and not row.name.isdigit() for row in table.rows) and headers:
        headers, rows = ["", *headers], [[row.name, *found] for row, found in zip(table.rows, rows, strict=False)]
    more = {"left_out": len(table.rows) - MOST_ROWS} if len(table.rows) > MOST_ROWS else {}
    return {"name": table.name, "columns": headers, "rows": rows} | more


def _value(attribute: Any, kind: str) -> Any:
    """Return a value as JSON. Numbers that JSON does not have, such as NaN, become text."""
    if attribute.is_na:
        return None
    value = getattr(attribute, {"float": "f", "int": "i64", "bool": "b"}.get(kind, "s"))
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
