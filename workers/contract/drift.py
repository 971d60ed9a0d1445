"""How a table differs from its registered columns."""

from __future__ import annotations

from collections.abc import Mapping


def drift(registered: Mapping[str, str], found: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Return how a table's columns differ from those registered, in words, and whether tasks can fail because of it."""
    lines = []
    for column, kind in registered.items():
        if column not in found:
            lines.append((f"column {column!r} is gone", True))
        elif found[column] != kind:
            # A column registered as text may look like numbers on the host (id cards of which none has an X, say), and
            # one registered as float may hold whole numbers. Only text where numbers are registered makes a task fail.
            lines.append((f"column {column!r} is {found[column]}, not {kind}", found[column] == "str"))
    lines += [(f"column {column!r} is new", False) for column in found if column not in registered]
    return lines
