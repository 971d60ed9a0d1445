"""Checks that every database can store a JSON value, so that no request ends with a server error.

PostgreSQL refuses NUL in text and JSON, no database takes half a surrogate pair or an infinite number, and
the depth limit keeps recursive code (json, the database's own parser) far from its end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from workers.contract.problems import Problem

DEEPEST = 32
LARGEST = 2**63 - 1


def unstorable(value: Any, path: tuple[str, ...] = ()) -> Iterator[Problem]:
    """Yield the parts of a JSON value that not every database can hold."""
    where = ".".join(path)
    if isinstance(value, str):
        yield from _text(value, where)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(where, "is not a finite number", "give a number that a computer can hold")
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield Problem(where, "is too large a number", f"give at most {LARGEST}")
    elif isinstance(value, dict | list):
        if len(path) >= DEEPEST:
            yield Problem(where, "is nested too deeply", f"{DEEPEST} levels are the most")
            return
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in entries:
            problem = next(_text(key, where), None) if isinstance(key, str) else None
            if problem:  # the key itself cannot be shown in a path
                yield Problem(where, f"has a key that {problem.wrong}", problem.right)
            else:
                yield from unstorable(entry, (*path, str(key)))


def _text(text: str, where: str) -> Iterator[Problem]:
    if "\x00" in text:
        yield Problem(where, "holds a NUL character", "remove it")
    elif any("\ud800" <= character <= "\udfff" for character in text):
        yield Problem(where, "holds half a surrogate pair", "send the text as proper Unicode")
