"""The differences between two versions of a document or a row, for the history and for profiles."""

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
    """One value that differs: its path, the value before and the value after. ABSENT stands for a missing value."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.words}" if self.path else self.words

    @property
    def words(self) -> str:
        if isinstance(self.old, list) and isinstance(self.new, list):
            # of two long lists only the entries that differ
            removed = [entry for entry in self.old if entry not in self.new]
            added = [entry for entry in self.new if entry not in self.old]
            parts = [("removed", removed), ("added", added)]
            if removed or added:
                return "; ".join(f"{word} {shown(entries)}" for word, entries in parts if entries)
        return f"{shown(self.old)} -> {shown(self.new)}"


def differences(old: Any, new: Any, path: str = "") -> Iterator[Change]:
    """Yield the differences of two JSON values, key by key, with dotted paths. A list counts as one value."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            where = f"{path}.{key}" if path else str(key)
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), where)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):  # to Python True == 1
        yield Change(path, old, new)


def shown(value: Any) -> str:
    """Return a value for people, in one line. Every value of a change that is shown passes through this function."""
    if value is None or value is ABSENT or value == "":
        return repr(ABSENT)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
