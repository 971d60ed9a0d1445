"""The YAML of a profile: read strictly, refused with line and column, and written so that it is read as it was."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.profiles.yaml import LARGEST, ProfileInvalid, read, write


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"a: 1\nb: 2\na: 3", "line 3, column 1: 'a' is a key here already, in line 1; name it once"),
        (b"a: [1", "line 1, column 6: expected ',' or ']'"),
        (b"a: &x 1", "line 1, column 4: anchors and aliases (& and *) are not taken"),
        (b"a: *x", "anchors and aliases"),
        (b"a: !!python/object/apply:os.system [id]", "line 1, column 4: tags (!) are not taken"),
        (b"1: 2", "a key that is not text; put it in quotes"),
        (b"true: 2", "a key that is not text; put it in quotes"),
        (b"? [a]\n: 1", "a key that is not text"),
        (b"a: 1\n---\nb: 1", "line 2, column 1: expected a single document in the stream but found another document"),
        (b"[" * 100_000, "is nested too deeply; 40 levels are the most"),
        (b"a: \xff\xfe", "line 1: is not UTF-8; save the file as UTF-8"),
        (b"a: 1\nb: \x00", "line 2: holds a character that YAML does not take"),
        (b"a: " + b"9" * 5000, "is too large a number"),
        (b"x" * (LARGEST + 1), "the file is too large; 1,000,000 bytes are the most"),
    ],
)
def test_it_refuses_what_is_not_plain_yaml(raw: bytes, words: str) -> None:
    with pytest.raises(ProfileInvalid) as caught:
        read(raw)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "value", ["no", "1e-3", "1e5", "2026-01-01", "true", "~", "", "x: y", "010", "1:30", "a\nb", "é", "- a"]
)
def test_text_comes_back_as_text(value: str) -> None:
    data = {"a": {value: value}, "list": [value]}
    assert read(write(data).encode())[0] == data


@pytest.mark.parametrize("value", [1e-5, 1.0, 1e16, -1.5e300, True, None, 5, [], {}, ["a"], [{"a": [1]}]])
def test_other_values_come_back_as_what_they_are(value: Any) -> None:
    found = read(write({"a": value}).encode())[0]["a"]
    assert (found, type(found)) == (value, type(value))


def test_yaml_1_2_spells_them() -> None:
    data, lines = read(b"a: no\nb: 1e-3\nc: 2026-01-01\nd:\n  e: null\n  f: 010\n")
    assert data == {"a": "no", "b": 0.001, "c": "2026-01-01", "d": {"e": None, "f": 10}}
    assert lines == {"a": 1, "b": 2, "c": 3, "d": 4, "d.e": 5, "d.f": 6}
