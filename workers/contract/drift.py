"""How a table differs from what is registered of it."""

from __future__ import annotations

from collections.abc import Mapping


def drift(registered: Mapping[str, str], found: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Return how a table's columns differ from those registered, in words, and whether a task can fail for it."""
    lines = []
    for column, kind in registered.items():
        if column not in found:
            lines.append((f"column {column!r} is gone", True))
        elif found[column] != kind:
            # What is registered as text may be anything on the host (id cards of which none has an X, say), and what
            # is registered as float may be whole numbers. Text where numbers are registered is what fails.
            lines.append((f"column {column!r} is {found[column]}, not {kind}", found[column] == "str"))
    lines += [(f"column {column!r} is new", False) for column in found if column not in registered]
    return lines
