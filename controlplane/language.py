"""The language of the console: what was stored in English is shown in the reader's language.

Texts of the program itself use Django's ``gettext``. Errors, reasons and events are stored, and come from other
hosts, in English: they are found again by the texts that they were made of, whose gaps ``{}`` are filled
(workers.contract.wording).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from string import Formatter
from typing import Any

from django.conf import settings
from django.utils import translation
from django.utils.translation import get_language, gettext_lazy, trans_real

#: What a longer text is made of, if it is not one text itself: the first of these that occurs divides it.
_JOINTS = ("\n", "; ", ": ")
#: Stands in Chinese between the parts.
_SEMICOLON = "\uff1b"
#: Texts longer than this are not looked at: they quote other software.
LONGEST = 4000
#: Nor are those of more parts than that: each is compared with all texts there are.
MOST_JOINTS = 30
#: Letters beside its gaps that a text needs so that it is found again; and as a part of another one, where names stand,
#: which may hold words as well.
_LEAST, _LEAST_IN_PART = 4, 12


def in_english() -> translation.override:
    """Return a context, and a decorator, for what leaves the console or is stored: it is English for all readers."""
    return translation.override(settings.LANGUAGE_CODE)


def is_english() -> bool:
    """Return whether the active language is that of the texts themselves."""
    return get_language() in (None, settings.LANGUAGE_CODE)


def translated(text: str) -> str:
    """Return a stored English text in the active language; what is not known in it stays as it is."""
    if not text or is_english() or len(text) > LONGEST or sum(map(text.count, _JOINTS)) > MOST_JOINTS:
        return text
    return _translated(text, str(get_language()))


def name_in_language(models: Iterable[Any]) -> None:
    """Have the names of models and of their fields shown in the reader's language, where no class says otherwise: they
    are made of the names in the code."""
    for model in models:
        options = model._meta
        options.verbose_name, options.verbose_name_plural = (
            gettext_lazy(str(name)) for name in (options.verbose_name, options.verbose_name_plural)
        )
        for field in options.local_fields:
            field.verbose_name = gettext_lazy(str(field.verbose_name))


@lru_cache(maxsize=2000)
def _translated(text: str, language: str, least: int = _LEAST) -> str:
    # Each part by itself, if all are known: a gap of the first would take in the others
    parts = [_as_one(part, language, least) for part in text.split("; ")]
    if all(parts):
        return _SEMICOLON.join(map(str, parts))
    if (found := _as_one(text, language, least)) is not None:
        return found
    for joint in _JOINTS:
        if joint in text:
            return joint.join(_part(part, language) for part in text.split(joint))
    return text


def _as_one(text: str, language: str, least: int) -> str | None:
    """Translate what is one text of the catalogue, with so many letters; None if it is none."""
    texts, forms = _known(language)
    if text in texts and (least == _LEAST or len(text) >= least):
        return texts[text]
    for fixed, form, letters in forms:
        if letters >= least and (gaps := _gaps_of(text, fixed)) is not None:
            return form.format(*(_part(gap, language) for gap in gaps))
    return None


def _part(text: str, language: str) -> str:
    """Translate a part of a text. What is short may be somebody's name for something, and stays."""
    return _translated(text, language, _LEAST_IN_PART) if " " in text else text


def _gaps_of(text: str, fixed: Sequence[str]) -> list[str] | None:
    """Return what stands between the fixed parts; None if they are not the text's. Takes linear time, as what other
    hosts send is looked at."""
    first, *middle, last = fixed
    end = len(text) - len(last)
    if not (text.startswith(first) and text.endswith(last) and len(first) <= end):
        return None
    gaps, start = [], len(first)
    for part in middle:
        found = text.find(part, start, end)
        if found < 0:
            return None
        gaps.append(text[start:found])
        start = found + len(part)
    return [*gaps, text[start:end]]


@cache
def _known(language: str) -> tuple[dict[str, str], list[tuple[list[str], str, int]]]:
    """Return the texts of a language without gaps, and those with gaps, the most specific first."""
    texts: dict[str, str] = {}
    forms: list[tuple[list[str], str, int]] = []
    for source, text in _catalogue(language):
        if not (isinstance(source, str) and isinstance(text, str) and source and text):
            continue
        texts[source] = text
        if "{" not in source or (parts := _parts_of(source)) is None:
            continue
        fixed, names = parts
        letters = sum(letter.isalpha() for part in fixed for letter in part)
        if len(fixed) > 1 and letters >= _LEAST:
            forms.append((fixed, _form_of(text, names), letters))
    return texts, sorted(forms, key=lambda one: -sum(map(len, one[0])))


def _catalogue(language: str) -> Iterable[tuple[Any, Any]]:
    return trans_real.translation(language)._catalog.items()  # type: ignore[attr-defined]


def _parts_of(source: str) -> tuple[list[str], list[str]] | None:
    """Return the parts of a text that stand before, between and after its gaps, and the gaps' names; None if it is no
    such text."""
    try:
        parsed = [(text, name) for text, name, *_ in Formatter().parse(source)]
    except ValueError:
        return None
    fixed = [*(text for text, _ in parsed), *([""] if parsed[-1][1] is not None else [])]
    return fixed, [name for _, name in parsed if name is not None]


def _form_of(text: str, names: Sequence[str]) -> str:
    """Return a translation whose gaps take words as they stand in the stored text: quoted or shortened already.
    ``names``: those of the gaps in the source, in its order."""
    number = iter(range(100))
    return "".join(
        part.replace("{", "{{").replace("}", "}}") + ("" if name is None else f"{{{_place(name, names, number)}}}")
        for part, name, *_ in Formatter().parse(text)
    )


def _place(name: str, names: Sequence[str], number: Iterator[int]) -> int:
    if name.isdigit():
        return int(name)
    return names.index(name) if name in names and name else next(number)
