"""The key columns of a table: each row has a key of its own, and that is found out in little memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers.contract.errors import ConfigError
from workers.contract.wording import Text
from workers.host import known
from workers.host.tables import read_text, state_of, text_in_blocks, types_of

#: Bytes of a file that are looked at in one go.
_BLOCK = 1 << 20
#: An odd number whose bits look random, here 2^64 over the golden ratio: a product by it mixes the bits of a word.
_MIXER = 0x9E3779B97F4A7C15
#: Bytes that are hashed at once.
_WORD = 8


def check_keys(path: Path, dataset: str, keys: list[str], *, remedy: str | None = "remove them") -> None:
    """Raise ConfigError unless each row has a key of its own: PSI relies on that and does not always notice.
    ``remedy``: what to do if several rows have the same key; None if that is allowed.
    """
    for column in types_of(path, dataset, keys):
        if '"' in column:  # PSI would write the name into the output's heading without quotes
            raise ConfigError("dataset {} has a column {!r}; PSI cannot write its name, so rename it", dataset, column)

    def passed() -> bool:
        _check_keys(path, dataset, keys, remedy)
        return True

    # Of a large table it takes seconds, and the pre-flight checks have just done it
    known.about(path, state_of(path), ["keys", keys, remedy is None], passed)


def _check_keys(path: Path, dataset: str, keys: list[str], remedy: str | None) -> None:
    import numpy as np
    import pyarrow.compute as pc

    # As text, as PSI compares them: 1 and 1.0 are different keys
    rows, empty, hashes = 0, dict.fromkeys(keys, 0), []
    for block in text_in_blocks(path, dataset, keys):
        rows += block.num_rows
        for key in empty:
            empty[key] += np.count_nonzero(pc.binary_length(block.column(key)).to_numpy() == 0)
        if remedy is not None:
            hashes.append(hashed([block.column(key) for key in keys]))
    if not rows:
        raise ConfigError("dataset {} has no rows", dataset)
    if _last_line(path) != rows:
        raise ConfigError(
            "dataset {} has blank lines or line breaks inside quotes; PSI takes each line for a row, so remove them",
            dataset,
        )
    for key, number in empty.items():
        if number:  # an empty key would match every other party's empty keys
            raise ConfigError(
                "column {!r} of dataset {} has {} empty values; PSI needs a key in each row", key, dataset, number
            )
    if remedy is None:
        return
    seen = np.concatenate(hashes)
    del hashes
    seen.sort()
    # Unlike hashes are of unlike keys; like ones may be, once in a blue moon
    if (seen[1:] == seen[:-1]).any() and (repeated := _rows_that_repeat(path, dataset, keys)):
        raise ConfigError(
            "dataset {} has {} rows that repeat the {} of another row; {}", dataset, repeated, keys, Text(remedy)
        )


def _rows_that_repeat(path: Path, dataset: str, keys: list[str]) -> int:
    """Return how many rows have the key of an earlier one."""
    import pyarrow as pa

    # Not by their names: group_by takes one that begins with a dot or a bracket for a path into nested columns
    columns = read_text(path, dataset, list(dict.fromkeys(keys))).values()
    table = pa.table({f"key_{index}": column for index, column in enumerate(columns)})
    return int(table.num_rows - table.group_by(table.column_names).aggregate([]).num_rows)


def _last_line(path: Path) -> int:
    """Return the number of the last line that has something on it, the heading being line 0.

    In blocks: a file without line feeds, such as one with the line ends of old Macs, is one line.
    """
    before = last = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            if text := block.rstrip():
                last = before + text.count(b"\n")
            before += block.count(b"\n")
    return last


def hashed(columns: Sequence[Any]) -> Any:
    """Return a hash of each row of columns of texts (arrow arrays of strings, one length), uint64, (rows,).

    Equal rows have equal hashes. Unlike rows may have, by chance: of ten million, two do once in 400,000 tables.
    """
    import numpy as np

    rows = len(columns[0])
    found = np.zeros(rows, np.uint64)
    for column in columns:
        _, places, data = column.buffers()
        bounds = np.frombuffer(places, np.int32)[column.offset : column.offset + rows + 1]
        starts, lengths = bounds[:-1].astype(np.int64), np.diff(bounds)
        # Where a word begins at any byte, with nothing after the last text
        text = np.concatenate([np.frombuffer(data or b"", np.uint8), np.zeros(_WORD, np.uint8)])
        words = np.lib.stride_tricks.sliding_window_view(text, _WORD)
        # The length, too, as a text may end with what fills the last word up
        found = _mixed(found, lengths.astype(np.uint64))
        for begin in range(0, int(lengths.max(initial=0)), _WORD):
            longer = np.flatnonzero(lengths > begin)  # texts of unlike lengths: only those that go on
            word = words[starts[longer] + begin].view(np.uint64).ravel()
            beyond = (_WORD - np.minimum(lengths[longer] - begin, _WORD)).astype(np.uint64)
            word &= np.uint64(2**64 - 1) >> (beyond * np.uint64(8))
            found[longer] = _mixed(found[longer], word)
    return found


def _mixed(hashes: Any, words: Any) -> Any:
    import numpy as np

    mixed = (hashes ^ words) * np.uint64(_MIXER)
    return mixed ^ (mixed >> np.uint64(32))
