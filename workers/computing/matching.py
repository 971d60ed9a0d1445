"""Prepares a table's keys for PSI, and makes rows of PSI's output.

SecretFlow's PSI sorts each party's output by the columns of that party's file, as they are written there, so two
parties' rows come in unlike orders as soon as their files differ in the place of a key column or in quotes
(``Table::SortInplace`` in SecretFlow's psi). It joins the columns of a key by commas, and its readers for three and
more parties know no quotes. So it sees files of one form alone: a first column with the key, in which nothing needs
quotes, and a second one with the number of the row. The rows themselves are taken from the party's own table.
"""

from __future__ import annotations

import hashlib
import hmac
import mmap
import secrets
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from workers.computing.context import Context
from workers.computing.telling import told_by
from workers.contract.errors import AlgorithmError, ConfigError
from workers.host.tables import read_text

#: Columns of the file that PSI sees, and what it writes there for a row that the party does not have.
KEY, ROW, NO_ROW = "key", "row", "-1"
#: Characters with a meaning to one of SecretFlow's readers, and their escapes. The escape character itself comes first.
_ESCAPED = (("%", "%25"), (",", "%2C"), ('"', "%22"), ("\r", "%0D"), ("\n", "%0A"))
#: Separates the columns of a key: no escaped text has it.
_BETWEEN = "%/"
#: Rows, and bytes, that are processed together.
_CHUNK, _BLOCK = 1 << 16, 1 << 24


class KeyTable:
    """A party's table as PSI sees it: a file of keys and row numbers in ``directory``."""

    def __init__(self, table: Path, dataset: str, keys: Sequence[str], directory: Path) -> None:
        """Write the file. Raises ConfigError if the table cannot be read row by row."""
        import numpy as np
        import pyarrow as pa
        from pyarrow import csv

        self.table, self.dataset = table, dataset
        #: Path of the file for PSI.
        self.path = directory / "keys.csv"
        found = keys_of(table, dataset, keys)
        options = csv.WriteOptions(include_header=False, quoting_style="none")
        with self.path.open("wb") as file:
            file.write(f"{KEY},{ROW}\n".encode())  # arrow would put these names in quotes
            csv.write_csv(pa.table({KEY: found, ROW: np.arange(len(found))}), file, options)
        self._count = len(found)

    def match(
        self, spu: Any, party: str, parties: Collection[str], receivers: Collection[str], answer: Path, **options: Any
    ) -> Any:
        """Run PSI over the parties' files, with this party's output in ``answer``. Return its reports.

        All parties call it. ``options``: further options of ``SPU.psi``.
        """
        return spu.psi(
            keys={p: [KEY] for p in parties},
            input_path={p: str(self.path) if p == party else "" for p in parties},
            output_path={p: str(answer) if p == party else "" for p in receivers},
            output_csv_na_rep=NO_ROW,
            **options,
        )

    def rows(self, answer: Path, *, crossed: bool) -> Any:
        """Return the numbers of the rows in PSI's output, int64, (rows,); -1 for a row that the party does not have.

        ``crossed``: set it at one of two parties, so that their rows are all pairs of equal keys. Raises AlgorithmError
        if PSI left no output.
        """
        from pyarrow import csv

        if not answer.exists():
            raise AlgorithmError("PSI ended without an output file")
        found = csv.read_csv(answer, convert_options=csv.ConvertOptions(column_types={KEY: "string", ROW: "int64"}))
        rows = found.column(ROW).to_numpy()
        return _crossed(rows, found.column(KEY).to_numpy()) if crossed else rows

    def write(self, rows: Any, target: Path, nothing: bytes = b"") -> None:
        """Write the heading and these rows of the table, unchanged; an empty row for -1.

        ``nothing``: the value in each column of an empty row.
        """
        with self.table.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            starts, ends = _lines(text)
            if len(starts) != self._count + 1:
                raise ConfigError(
                    f"dataset {self.dataset} has line breaks inside quotes, or was changed meanwhile; "
                    "PSI takes each line for a row, so remove them"
                )
            heading = text[starts[0] : ends[0]]
            columns = len(_columns(heading))
            # Readers of the output skip an empty line
            empty = b",".join([nothing] * columns) if columns > 1 else nothing or b'""'
            with target.open("wb") as written:
                written.write(heading + b"\n")
                for begin in range(0, len(rows), _CHUNK):
                    chosen = rows[begin : begin + _CHUNK]
                    spans = zip(chosen.tolist(), starts[chosen + 1].tolist(), ends[chosen + 1].tolist(), strict=True)
                    written.write(b"".join((text[a:b] if row >= 0 else empty) + b"\n" for row, a, b in spans))


def keys_of(table: Path, dataset: str, keys: Sequence[str]) -> Any:
    """Return each row's key as one text that needs no quotes, an arrow array. Different keys have different texts."""
    import pyarrow.compute as pc

    columns = []
    for column in read_text(table, dataset, list(dict.fromkeys(keys))).values():
        for character, escaped in _ESCAPED:
            column = pc.replace_substring(column, character, escaped)
        columns.append(column)
    return pc.binary_join_element_wise(*columns, _BETWEEN) if len(columns) > 1 else columns[0]


def _lines(text: Any) -> tuple[Any, Any]:
    """Return where the lines of a file begin and end, int64, (lines,). Empty lines are left out."""
    import numpy as np

    breaks = [
        np.flatnonzero(np.frombuffer(text[begin : begin + _BLOCK], np.uint8) == 0x0A) + begin
        for begin in range(0, len(text), _BLOCK)
    ]
    ends = np.concatenate([*breaks, [len(text)]])
    starts = np.concatenate([[0], ends[:-1] + 1])
    characters = np.frombuffer(text, np.uint8)
    ends -= (ends > starts) & (characters[ends - 1] == 0x0D)
    del characters  # the map cannot be closed while an array uses it
    has_text = ends > starts
    return starts[has_text], ends[has_text]


def _columns(heading: bytes) -> list[str]:
    import csv

    return next(csv.reader([heading.decode(errors="surrogateescape")]))


def _crossed(rows: Any, keys: Any) -> Any:
    """Return the second party's rows in an order that makes all pairs of equal keys with the first one's. If a key is
    in two rows here and three there, SecretFlow writes each row three times here and twice there, one after the other:
    six rows at both, but not six pairs. ``rows`` and ``keys``: as PSI wrote them, (rows,).
    """
    import numpy as np

    is_again = (rows[1:] == rows[:-1]) & (rows[1:] >= 0)
    if not is_again.any():
        return rows
    is_new = (keys[1:] != keys[:-1]) | ((rows[1:] < 0) != (rows[:-1] < 0))
    starts = np.flatnonzero(np.concatenate([[True], is_new]))
    sizes = np.diff(np.append(starts, len(rows)))
    is_of_both = sizes >= 4  # a key has at least two rows at both
    changed = rows.copy()
    for begin, end in zip(starts[is_of_both], (starts + sizes)[is_of_both], strict=True):
        own = len(np.unique(rows[begin:end]))
        if 1 < own < end - begin:
            changed[begin:end] = rows[begin:end].reshape(own, -1).T.ravel()
    return changed


def _digest(texts: Any, key: bytes) -> str:
    """Return a keyed digest of texts (an arrow array) and of their order."""
    import numpy as np
    import pyarrow as pa

    digest, whole = hmac.new(key, digestmod=hashlib.sha256), texts.cast(pa.large_string())
    parts = []
    for chunk in whole.chunks:
        _, places, data = chunk.buffers()
        bounds = np.frombuffer(places, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        # Lengths first, then the texts, so that the digest does not depend on how the array is cut into chunks
        digest.update(np.diff(bounds).tobytes())
        parts.append(memoryview(data)[bounds[0] : bounds[-1]] if data else b"")
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def check_pairing(context: Context, output: Path, dataset: str, keys: Sequence[str], rows: Any) -> int:
    """Check, by a keyed digest of the keys, that the parties' outputs line up. Returns how many rows all parties have.
    Every party calls it with its own output, key columns and row numbers (-1: no row). Raises AlgorithmError if the
    outputs do not line up: later computations would use wrong pairs.
    """
    told = told_by(context.parties, (len(rows), int((rows < 0).sum()), secrets.token_hex(16))).values()
    # Rows that all parties have come first, then those that only one party has
    common = len(rows) - sum(lacking for _, lacking, _ in told)
    key = "".join(part for *_, part in told).encode()
    whole = keys_of(output, dataset, keys)[: max(common, 0)]
    digest = _digest(whole, key)
    complete = bool((rows[: max(common, 0)] >= 0).all())
    seen = set(told_by(context.parties, (len(rows), complete, digest)).values())
    if common < 0 or not complete or len(seen) > 1:
        raise AlgorithmError(
            "PSI gave the parties rows in unlike orders, so nothing was kept; please report this with the protocol, "
            "the join type and the key columns"
        )
    return common
