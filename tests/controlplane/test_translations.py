"""The catalogues of Chinese texts are complete, fit their texts, and are compiled; so is what was stored."""

# ruff: noqa: RUF001
from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from babel.messages.pofile import read_po
from django.utils import translation

from controlplane import language
from tests.translations import LOCALE, PARTS, Part, compiled

#: What a translation has as its text has it: %(name)s, %s, {} and {name}, and markup.
PLACES = re.compile(r"%\(\w+\)[sd]|%[sd]|\{[\w!:,.%]*\}|</?\w+|`[^`]+`")


def places_of(text: str) -> list[str]:
    """The places, in whatever order: {1:,} is the second {:,}."""
    return sorted(re.sub(r"\{\d+", "{", place) for place in PLACES.findall(text))


each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)


@each_part
def test_the_catalogue_has_the_texts_of_the_code(part: Part) -> None:
    in_code = {(message.context, message.id) for message in part.texts() if message.id}
    kept = {(message.context, message.id) for message in part.catalogue() if message.id}
    assert in_code == kept, "run `make translations`, and translate what is new"


@each_part
def test_every_text_has_a_translation_that_fits(part: Part) -> None:
    for message in part.catalogue():
        if not message.id:
            continue
        forms = message.string if isinstance(message.string, tuple) else [message.string]
        text = str(message.id[-1] if isinstance(message.id, tuple) else message.id)
        assert all(forms), f"{text!r} has no translation"
        for form in forms:
            assert places_of(form) == places_of(text), f"{text!r} -> {form!r}"
            assert not message.fuzzy, text


@each_part
def test_the_compiled_catalogue_is_that_of_the_file(part: Part) -> None:
    catalogue = read_po(io.BytesIO(part.path.read_bytes()), locale=LOCALE, domain="django")
    assert part.path.with_suffix(".mo").read_bytes() == compiled(catalogue), "run `make translations`"


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[Any, Any]]:
    texts: dict[Any, Any] = {}
    monkeypatch.setattr(language, "_catalogue", lambda name: texts.items())
    for cached in (language._known, language._translated):
        cached.cache_clear()
    yield texts
    for cached in (language._known, language._translated):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("the disk is full", "磁盘已满"),
        ("dataset patients has no column 'age'", "数据集 patients 没有列 'age'"),
        ("dataset name has no column 'the disk is full'", "数据集 name 没有列 'the disk is full'"),
        ("alice: the disk is full", "alice: 磁盘已满"),
        ("bob has 1,000 of 20 rows", "20 行中 bob 有 1,000 行"),
        ("name", "名称"),
        ("alice: name", "alice: name"),
        ("name a dataset of alice", "填写 alice 的数据集"),
        ("something else", "something else"),
        ("known: train, it failed, more", "已知：train, it failed, more"),
        ("my name failed 1 succeeded", "my name failed 1 成功"),
        ("the disk is full; name a dataset of alice", "磁盘已满；填写 alice 的数据集"),
        ("the disk is full: {} {0} {x}", "磁盘已满: {} {0} {x}"),
        ("; " * 31 + "the disk is full", "; " * 31 + "the disk is full"),
        ("", ""),
    ],
)
def test_what_was_stored_is_shown_in_the_readers_language(catalogue: dict[Any, str], stored: str, shown: str) -> None:
    catalogue |= {
        "the disk is full": "磁盘已满",
        "dataset {} has no column {!r}": "数据集 {} 没有列 {!r}",
        "{} has {:,} of {} rows": "{2} 行中 {0} 有 {1:,} 行",
        "name": "名称",
        "{}{}": "x",
        "known: {}": "已知：{}",
        "{} failed{}": "{} 失败{}",
        "{} succeeded": "{} 成功",
        "{} of {}": "x",
        "name a dataset of {party}": "填写 {party} 的数据集",
    }
    with translation.override("zh-hans"):
        assert language.translated(stored) == shown
    assert language.translated(stored) == stored
