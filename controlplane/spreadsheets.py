"""Tables as CSV, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from datetime import timezone as zone
from typing import Any

#: What a spreadsheet would take for a formula, and run.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def as_csv(columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV, with all digits."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([cell(name) for name in columns])
    writer.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()


def cell(value: Any) -> Any:
    """Return a value as a cell has it: times in UTC, durations in seconds, and no text that a spreadsheet would run."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(zone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULAS) or text.lstrip().startswith(_FORMULAS) else text
