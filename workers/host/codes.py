"""Columns that look like numbers and are codes: 007 is not 7, and a card number of 20 digits is no quantity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: A whole number with leading zeros, as codes and postcodes have.
PADDED = r"^\s*[+-]?0\d"
_LONG = r"^\s*[+-]?\d{19,}\s*$"
_FRACTION = r"^\s*[+-]?(\d+\.\d*|\.\d+|\d+(\.\d*)?[eE][+-]?\d+)\s*$"
#: Number of digits of the largest number of 64 bits.
_DIGITS = 19
_LEAST, _MOST = -(2**63), 2**63 - 1
#: Bytes of a file that are looked at in one go, and by how many two goes overlap.
_BLOCK, _OVERLAP = 1 << 22, 32


def columns_of_codes(path: Path, blocks: Iterator[Any]) -> set[str]:
    """Return the columns that have whole numbers with leading zeros, or only whole numbers, one of them beyond 64 bits.

    ``blocks``: the columns that look like numbers, as text (arrow record batches of strings).
    """
    import pyarrow.compute as pc

    # Most files have none, and are not parsed a second time
    has_padded, has_long = _may_have(path)
    padded, too_long, fractions = set(), set(), set()
    for block in blocks if has_padded or has_long else ():
        for column, text in zip(block.schema.names, block.columns, strict=True):
            if column in padded:
                continue
            if has_padded and pc.any(pc.match_substring_regex(text, PADDED)).as_py():
                padded.add(column)
            if not has_long or column in fractions:
                continue
            long = text.filter(pc.match_substring_regex(text, _LONG)).to_pylist()
            if any(not _LEAST <= int(cell) <= _MOST for cell in long):
                too_long.add(column)
            if pc.any(pc.match_substring_regex(text, _FRACTION)).as_py():
                fractions.add(column)
    return padded | (too_long - fractions)


def _may_have(path: Path) -> tuple[bool, bool]:
    """Return whether any cell may begin with a zero before a digit, and whether any may have too many digits."""
    import numpy as np

    has_padded = has_long = False
    before = b"\n"
    with path.open("rb") as file:
        while (read := file.read(_BLOCK)) and not (has_padded and has_long):
            content = before + read
            text = np.frombuffer(content, np.uint8)
            is_digit = (text - np.uint8(ord("0"))) < 10  # below "0" it wraps around
            if not has_padded:
                padded = (text[1:-1] == ord("0")) & is_digit[2:] & ~is_digit[:-2] & (text[:-2] != ord("."))
                has_padded = _any_begins_cell(text, np.flatnonzero(padded) + 1)
            run, length = is_digit, 1
            while length < _DIGITS:
                step = min(length, _DIGITS - length)
                run, length = run[:-step] & run[step:], length + step
            has_long = has_long or bool(run.any())
            before = content[-_OVERLAP:]
    return has_padded, has_long


def _any_begins_cell(text: Any, places: Any) -> bool:
    """Return whether what is before one of these places, but for spaces and a sign, ends a cell or a line."""
    import numpy as np

    for back in range(1, 5):
        before = text[places - back]
        if np.isin(before, np.frombuffer(b',\n\r"', np.uint8)).any():
            return True
        # Most are inside of words and dates. What has nothing before it is the beginning of what is looked at.
        places = places[np.isin(before, np.frombuffer(b"+- \t", np.uint8))]
        if (places <= back).any():
            return True
    return len(places) > 0
