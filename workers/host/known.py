"""What was found out about this host's files, so that no process reads them again for it.

Several processes do checks and jobs, and none for long. So the worker remembers, in its own memory alone: it hands what
is known to each process, and takes back what a check used or found.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

#: What the keys of facts about single files begin with.
_FILE = "file "
#: Characters of facts that a job is handed: each job waits until it has read them.
_MOST_OF_A_JOB = 1 << 16


class KnownFacts:
    """Facts by key, JSON: those that were used last, so many and so many characters at most."""

    MOST, MOST_CHARACTERS = 200, 1 << 22

    def __init__(self) -> None:
        self._facts: OrderedDict[str, Any] = OrderedDict()
        self._sizes: dict[str, int] = {}

    def as_message(self) -> dict[str, Any]:
        """Return all of them, as a check is handed them."""
        return dict(self._facts)

    def for_a_job(self) -> dict[str, Any]:
        """Return those about single files that were used last, as a job is handed them."""
        found, size = {}, 0
        for key in reversed(self._facts):
            size += self._sizes[key] if key.startswith(_FILE) else 0
            if size > _MOST_OF_A_JOB:
                break
            if key.startswith(_FILE):
                found[key] = self._facts[key]
        return found

    def learn(self, used: Mapping[str, Any]) -> None:
        """Remember what was used or found."""
        for key, fact in used.items():
            self._facts[key] = fact
            self._facts.move_to_end(key)
            self._sizes[key] = len(json.dumps(fact))
        while len(self._facts) > self.MOST or sum(self._sizes.values()) > self.MOST_CHARACTERS:
            forgotten, _ = self._facts.popitem(last=False)
            del self._sizes[forgotten]

    def get(self, key: str) -> Any:
        """Return a fact, or None."""
        return self._facts.get(key)


#: What this process knows of single files, and what of that it has used since ``begin``.
_known = KnownFacts()
_used: dict[str, Any] = {}


def begin(known: Mapping[str, Any]) -> None:
    """Take over what the worker knows."""
    _known.learn({key: fact for key, fact in known.items() if key.startswith(_FILE)})
    _used.clear()


def used() -> dict[str, Any]:
    """Return the facts about single files that were used or found since ``begin``, for the worker to remember."""
    return dict(_used)


def about(path: Path, state: tuple[int, ...], question: Any, find: Callable[[], Any]) -> Any:
    """Return what ``find`` returns, JSON but not None, or once returned for this question about the file in this state.

    ``state``: what ``tables.state_of`` returned before anything was read. Raises what ``find`` raises, which is not
    remembered.
    """
    key = _FILE + hashlib.sha256(json.dumps([question, str(path), *state]).encode()).hexdigest()
    fact = _known.get(key)
    if fact is None:
        fact = find()
    _known.learn({key: fact})
    _used[key] = fact
    return fact
