"""Guesses the encoding and the delimiter of a file that is not CSV in UTF-8 with commas."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path

#: How much of a file is examined: bytes and lines.
_SAMPLE, _LINES = 1 << 16, 20
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MARKS = {
    codecs.BOM_UTF32_LE: ("UTF-32", "utf-32"),  # its mark begins with that of UTF-16, so it comes first
    codecs.BOM_UTF32_BE: ("UTF-32", "utf-32"),
    codecs.BOM_UTF16_LE: ("UTF-16", "utf-16"),
    codecs.BOM_UTF16_BE: ("UTF-16", "utf-16"),
}
#: First bytes in GBK of the 3,755 most common Chinese characters.
_COMMON_HANZI = range(0xB0, 0xD8)


def looks_like(path: Path, *, delimiter: bool) -> str:
    """Return what the file looks like and what to do about it; empty if it looks right. ``delimiter``: whether to look
    for another delimiter than the comma. The encoding is named before the delimiter.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_SAMPLE)
            found = _encoding(start) or _encoding_of_rest(path)
    except OSError:
        return ""
    if found:
        name, codec = found
        return (
            f'the file looks like {name}; save it as UTF-8, or set encoding = "{codec}" for this dataset in party.toml'
        )
    sign = _delimiter(start) if delimiter else None
    if sign is None:
        return ""
    shown = "\\t" if sign == "\t" else sign
    return (
        f"its fields look separated by {_DELIMITERS[sign]}; save it with commas, or set "
        f'delimiter = "{shown}" for this dataset in party.toml'
    )


def _encoding_of_rest(path: Path) -> tuple[str, str] | None:
    """Return what ``_encoding`` finds in the first part of the file that is not UTF-8: headings are often ASCII."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        while block := file.read(_SAMPLE):
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                whole = block.rpartition(b"\n")[0] or block
                return _encoding(whole.partition(b"\n")[2] or whole)
    return None


def _encoding(start: bytes) -> tuple[str, str] | None:
    """Return the encoding's name for people and that for party.toml; None for UTF-8, and for bytes that are no text."""
    for mark, names in _MARKS.items():
        if start.startswith(mark):
            return names
    if b"\0" in start:
        return _utf_16_without_mark(start)
    if _decodes(start, "utf-8"):
        return None
    if _decodes(start, "gb18030"):
        pairs = _first_bytes(start)
        if 2 * sum(byte in _COMMON_HANZI for byte in pairs) >= len(pairs):
            return "GBK", "gb18030"
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in start):
        return None
    return ("Windows-1252", "windows-1252") if _decodes(start, "windows-1252") else ("Latin-1", "latin-1")


def _utf_16_without_mark(start: bytes) -> tuple[str, str] | None:
    """Return the encoding of bytes of which every other one is 0, as in UTF-16 that is mostly ASCII."""
    even, odd = start[::2].count(0), start[1::2].count(0)
    if max(even, odd) < len(start) // 4 or min(even, odd) > 0:
        return None
    return "UTF-16", "utf-16-be" if even > odd else "utf-16-le"


def _decodes(start: bytes, codec: str) -> bool:
    """Return whether the bytes are text in that encoding, apart from a character that is cut off at the end."""
    try:
        codecs.getincrementaldecoder(codec)().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def _first_bytes(start: bytes) -> list[int]:
    """Return the first byte of each non-ASCII character, read as GBK: two bytes each."""
    found, place = [], 0
    while place < len(start):
        wide = start[place] >= 0x80
        if wide:
            found.append(start[place])
        place += 2 if wide else 1
    return found


def _delimiter(start: bytes) -> str | None:
    """Return the delimiter that gives the same number of fields, two or more, in each of the first lines; None if none
    does."""
    text = start.decode("utf-8-sig", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if len(start) == _SAMPLE:
        lines = lines[:-1]  # cut off
    for sign in _DELIMITERS:
        try:
            counts = {len(fields) for fields in csv.reader(lines[:_LINES], delimiter=sign)}
        except csv.Error:
            continue
        if len(counts) == 1 and counts.pop() > 1:
            return sign
    return None
