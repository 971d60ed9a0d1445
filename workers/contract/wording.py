"""Texts with gaps: what stands in a gap may be of one host alone, and is told elsewhere only if that host agrees.

A message says ``ConfigError("dataset {} has no column {!r}", dataset, column)`` and not an f-string: whoever passes the
message on can then tell the words of this program, which are for everybody, from names and paths of the host.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Number
from string import Formatter
from typing import Any

#: Stands in a gap for what is not told.
NOT_TOLD = "(not told)"
#: Says whether a word may be told.
MayTell = Callable[[str], bool]
_LISTS = (list, tuple, set, frozenset)


class Quoted(str):
    """What other software said, in a gap: it may name anything of this host."""


class Text:
    """A text with gaps. ``str()`` has all that is in them; :meth:`told` has what may be told."""

    def __init__(self, template: str, *gaps: Any, optional: bool = False) -> None:
        """``template``: as for ``str.format``, with gaps in order; a constant. Without ``gaps`` it is the text.

        A gap holds a number or another Text, which are always told, a word, or a list of these. ``optional``: leave out
        the whole text if something in it may not be told.
        """
        self.template, self.gaps, self.optional = template, gaps, optional

    def __str__(self) -> str:
        return self.told(lambda word: True)

    def told(self, may_tell: MayTell) -> str:
        """Return the text without what may not be told."""
        if not self.gaps:
            return self.template
        filled = "".join(self._parts(may_tell))
        return "" if self.optional and NOT_TOLD in filled else filled

    def _parts(self, may_tell: MayTell) -> Iterator[str]:
        gaps = iter(self.gaps)
        for text, field, form, conversion in Formatter().parse(self.template):
            yield text
            if field is None:
                continue
            value = next(gaps)
            if isinstance(value, _LISTS):
                yield ", ".join(_shown(one, form or "", conversion, may_tell) for one in value)
            else:
                yield _shown(value, form or "", conversion, may_tell)

    def words(self) -> Iterator[str]:
        """Yield the words that stand in gaps."""
        pending = [*self.gaps]
        while pending:
            gap = pending.pop()
            if isinstance(gap, str):
                yield gap
            pending += gap.gaps if isinstance(gap, Text) else gap if isinstance(gap, _LISTS) else ()

    def as_json(self) -> dict[str, Any]:
        """Return the text for another process of the same host; see :meth:`from_json`."""
        return {"text": self.template, "gaps": [_as_json(gap) for gap in self.gaps], "optional": self.optional}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Text:
        return cls(found["text"], *map(_of_json, found["gaps"]), optional=found["optional"])


def _shown(value: Any, form: str, conversion: str | None, may_tell: MayTell) -> str:
    if isinstance(value, Text):
        return value.told(may_tell)
    if not isinstance(value, Number):
        value = value if isinstance(value, str) else str(value)
        if not may_tell(value):
            return NOT_TOLD
    return format(repr(value) if conversion == "r" else value, form)


def _as_json(gap: Any) -> Any:
    if isinstance(gap, Text):
        return gap.as_json()
    if isinstance(gap, _LISTS):
        return [_as_json(one) for one in gap]
    return gap if isinstance(gap, (int, float)) else str(gap)


def _of_json(gap: Any) -> Any:
    if isinstance(gap, Mapping):
        return Text.from_json(gap)
    return [_of_json(one) for one in gap] if isinstance(gap, list) else gap


def hint(name: str, known: Iterable[str]) -> Text:
    """Return ``did you mean 'x'?`` if a known name is close, otherwise a list of the known names; nothing where one of
    them may not be told."""
    known = sorted(known)
    if near := difflib.get_close_matches(name, known, n=1):
        return Text("did you mean {!r}?", near[0], optional=True)
    if len(known) > 20:
        return Text("known: {} and {} more", known[:20], len(known) - 20, optional=True)
    return Text("known: {}", known or Text("none"), optional=True)
