"""What may leave this host: every event, error, result and report passes its gate.

An error's text has its names in gaps (:mod:`workers.contract.wording`), and the gate says of each whether it may be
told. As a net under that, names and paths of this host that are in any other text are taken out.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from workers.contract.errors import SecretFlowTaskError
from workers.contract.problems import DocumentsInvalid
from workers.contract.secrets import MASK
from workers.contract.wording import NOT_TOLD, Quoted

if TYPE_CHECKING:
    from workers.host.party import PartyHost

#: Types of columns, which are words of ours.
_TYPES = frozenset({"str", "int", "float", "bool"})
#: A word of letters alone that is no longer than this stays where it stands in a text of unknown origin: it may be a
#: column's name here, but taking it out would mangle texts, and would tell by the gap that there is such a column.
_ORDINARY = 12
_WORD = re.compile(r"[\w.@+-]*\w")
#: Characters of a secret, or of a line of one, below which it is not looked for in texts.
_SHORTEST_SECRET = 4
#: What comes after a user's name in a URL, or after a word for a secret.
_SECRET = re.compile(
    r"(://[^\s:/@]*:)[^\s@/]+(?=@)"
    r"|((?:password|passwd|secret|token|api[_-]?key|private[_-]?key|authorization)[\"']?\s*[=:]\s*(?:bearer\s+)?[\"']?)"
    r"[^\s\"',;&}]+",
    re.I,
)
#: Names of the columns of all tables that this process has read, and of those of them that tasks may not use.
_columns: set[str] = set()
_hidden: set[str] = set()


def note_columns(names: Iterable[str], allowed: Iterable[str] | None = None) -> None:
    """Remember names of columns of this host, so that no gate lets them out by mistake. ``allowed``: those that tasks
    may use, if not all."""
    names = set(names)
    _columns.update(names)
    _hidden.update(names - set(names if allowed is None else allowed))


def columns_in(error: SecretFlowTaskError) -> list[str]:
    """Return the columns that an error's text has in its gaps: for a process that reads an error of another one."""
    return sorted(_columns.intersection(error.text.words()))


class Gate:
    """Decides what may leave this host, going by its policy and by what was named from outside."""

    def __init__(self, host: PartyHost, named: Any = ()) -> None:
        """``named``: JSON from outside, such as a run's documents; whatever it names may be told."""
        self._host = host
        self._tells_columns = host.publishes("columns")
        self._named = {host.name, *_TYPES, *_words_of(named)}
        places = [*host.places(), *map(Path, (os.environ.get("TMPDIR", os.sep), sys.prefix, os.path.expanduser("~")))]
        kept = sorted({str(place) for place in places if len(place.parts) > 1}, key=len, reverse=True)
        self._path = re.compile(rf"(?:{'|'.join(map(re.escape, kept))})(?:/[^\s'\":;,]*)?")

    def may_tell(self, word: str) -> bool:
        """Return whether a name of this host, or a text of other software, may be told."""
        if isinstance(word, Quoted):
            return self._tells_columns and self.scrubbed(str(word)) == word
        return word in self._named or (self._tells_columns and word in _columns - _hidden)

    def columns(self, names: Iterable[str], own: Container[str]) -> list[str]:
        """Return those columns that may be told. What is not among this host's ``own``, a run has made."""
        return [name for name in names if name not in own or self.may_tell(name)]

    def error(self, error: SecretFlowTaskError) -> str:
        """Return an error's text as it is told."""
        return str(self.scrubbed(error.told(self.may_tell)))

    def problems(self, error: SecretFlowTaskError) -> list[dict[str, str]] | None:
        """Return the problems of wrong documents as they are told; None for another error."""
        if not isinstance(error, DocumentsInvalid):
            return None
        return [self.scrubbed(problem.told().as_dict()) for problem in error.problems]

    def scrubbed(self, value: Any) -> Any:
        """Return JSON without paths of this host, and without the names that may not be told. Keys stay, but for those
        that are the whole name of something."""
        if isinstance(value, str):
            return self._without_names(self._without_paths(value))
        if isinstance(value, Mapping):
            return {
                self._without_names(key) if isinstance(key, str) else key: self.scrubbed(v) for key, v in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.scrubbed(one) for one in value]
        return value

    def without_secrets(self, text: str, secrets: Iterable[str] = ()) -> str:
        """Return a text of unknown origin without paths of this host, these secrets, and what looks like a secret."""
        for secret in secrets:
            for said in {secret, json.dumps(secret)[1:-1], quote(secret), *secret.splitlines()}:
                if len(said) >= _SHORTEST_SECRET:
                    text = text.replace(said, MASK)
        return _SECRET.sub(lambda found: f"{found[1] or found[2]}{MASK}", self._without_paths(text))

    def _without_paths(self, text: str) -> str:
        return self._path.sub(NOT_TOLD, text) if "/" in text else text

    def _without_names(self, text: str) -> str:
        if self._is_secret(text):
            return NOT_TOLD
        return _WORD.sub(lambda found: NOT_TOLD if self._is_secret(found[0]) else found[0], text)

    def _is_secret(self, word: str) -> bool:
        if word in self._named or (word.isascii() and word.isalpha() and len(word) <= _ORDINARY):
            return False
        if word in _hidden or (word in _columns and not self._tells_columns):
            return True
        return self._host.knows(word)


def _words_of(named: Any) -> Iterator[str]:
    """Yield every text in JSON, keys included, and its parts: an expression names columns, too. Does not recurse, as
    nobody has checked how deep it is."""
    pending = [named]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
            yield from _WORD.findall(value)
            yield from re.findall(r"\w+", value)
        elif isinstance(value, Mapping):
            pending += [*value, *value.values()]
        elif isinstance(value, (list, tuple)):
            pending += value
