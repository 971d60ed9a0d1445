"""Versions of what an operator registers: each change makes one, and the history keeps who made it, when and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

SHOWN = 120


class _Absent:
    """A key that is not there, as opposed to one that says null."""

    def __repr__(self) -> str:
        return "(none)"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs: where, and from what to what; ABSENT where there was or is none."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.words}" if self.path else self.words

    @property
    def words(self) -> str:
        if isinstance(self.old, list) and isinstance(self.new, list):
            # of two long lists, what makes the difference
            removed = [entry for entry in self.old if entry not in self.new]
            added = [entry for entry in self.new if entry not in self.old]
            parts = [("removed", removed), ("added", added)]
            if removed or added:
                return "; ".join(f"{word} {shown(entries)}" for word, entries in parts if entries)
        return f"{shown(self.old)} -> {shown(self.new)}"


def differences(old: Any, new: Any, path: str = "") -> Iterator[Change]:
    """Yield what differs between two JSON values, key by key, with dotted paths; a list counts as one value."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            where = f"{path}.{key}" if path else str(key)
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), where)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):  # True == 1, and not to a document
        yield Change(path, old, new)


def shown(value: Any) -> str:
    """Return a value for people, in one line. Whatever is shown of a change passes here: a secret would be masked
    here."""
    if value is None or value is ABSENT or value == "":
        return repr(ABSENT)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
