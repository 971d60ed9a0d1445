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
import secrets
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from workers.computing.context import Context
from workers.computing.telling import told_by
from workers.contract.errors import AlgorithmError, ConfigError
from workers.host.tables import read_text, text_blocks

#: Columns of the file that PSI sees, and what it writes there for a row that the party does not have.
KEY, ROW, NO_ROW = "key", "row", "-1"
#: Characters with a meaning to one of SecretFlow's readers, and their escapes. The escape character itself comes first.
_ESCAPED = (("%", "%25"), (",", "%2C"), ('"', "%22"), ("\r", "%0D"), ("\n", "%0A"))
#: Separates the columns of a key: no escaped text has it.
_BETWEEN = "%/"
#: Keys that PSI matches at once. With SecretFlow's own 2^20, ten million rows take a tenth longer, and half as much
#: memory again.
_BUCKET = 1 << 18
#: Rows, and bytes, that are written together.
_ROWS, _BLOCK = 1 << 16, 1 << 22


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
        self._count = 0
        schema = pa.schema([(KEY, pa.string()), (ROW, pa.int64())])
        options = csv.WriteOptions(include_header=False, quoting_style="none")
        with self.path.open("wb") as file:
            file.write(f"{KEY},{ROW}\n".encode())  # arrow would quote these names
            with csv.CSVWriter(file, schema, write_options=options) as writer:
                for block in text_blocks(table, dataset, list(dict.fromkeys(keys))):
                    numbers = np.arange(self._count, self._count + block.num_rows)
                    writer.write_batch(pa.record_batch([_joined(block.columns), numbers], schema=schema))
                    self._count += block.num_rows

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
            bucket_size=_BUCKET,
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
        types = {ROW: "int64"} | ({KEY: "string"} if crossed else {})
        options = csv.ConvertOptions(include_columns=list(types), column_types=types)
        found = csv.read_csv(answer, convert_options=options)
        rows = found.column(ROW).to_numpy()
        return _crossed(rows, found.column(KEY)) if crossed else rows

    def write(self, rows: Any, target: Path, nothing: bytes = b"") -> None:
        """Write the heading and these rows of the table, unchanged; an empty row for -1.

        ``nothing``: the value in each column of an empty row.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        with pa.memory_map(str(self.table)) as file:
            text = file.read_buffer()
            lines, step = _lines(text)
            if lines is None or len(lines) // step != self._count + (step == 1):
                raise ConfigError(
                    "dataset {} has line breaks inside quotes, or was changed meanwhile; PSI takes each line for a "
                    "row, so remove them",
                    self.dataset,
                )
            heading = lines[0].as_py().removesuffix(b"\n")
            columns = len(_columns(heading))
            # Readers of the output skip an empty line
            empty = b",".join([nothing] * columns) if columns > 1 else nothing or b'""'
            nobody, joint, end = (pa.scalar(part, pa.large_binary()) for part in (empty + b"\n", b"", b"\n"))
            at_once = max(1, min(_ROWS, _BLOCK * self._count // len(text)))
            with target.open("wb") as written:
                written.write(heading + b"\n")
                for begin in range(0, len(rows), at_once):
                    chosen = rows[begin : begin + at_once]
                    found = lines.take(pa.array(step * (chosen + 1), mask=chosen < 0))
                    if step > 1:
                        found = pc.binary_join_element_wise(found, end, joint)
                    written.write(_content(found.fill_null(nobody)))


def keys_of(table: Path, dataset: str, keys: Sequence[str]) -> Any:
    """Return each row's key as one text in which nothing needs quotes, an arrow array; unlike keys, unlike texts.

    Raises ConfigError where a column is missing.
    """
    return _joined(read_text(table, dataset, list(dict.fromkeys(keys))).values())


def _joined(columns: Iterable[Any]) -> Any:
    import pyarrow.compute as pc

    escaped = [_escaped(column) for column in columns]
    return pc.binary_join_element_wise(*escaped, _BETWEEN) if len(escaped) > 1 else escaped[0]


def _escaped(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    there: set[str] = set()
    for chunk in chunks:  # most keys have none of them, and to look takes a sixth of replacing
        text = bytes(_content(chunk))
        there |= {character for character, _ in _ESCAPED if character.encode() in text}
    for character, instead in _ESCAPED:
        if character in there:
            column = pc.replace_substring(column, character, instead)
    return column


def _lines(text: Any) -> tuple[Any, int]:
    """Return the lines of a file (a buffer) as an arrow array that copies none of it, None where it has no line; and
    how far apart they are in it.

    They are one apart, each with its end, where each line has something on it and ends with a line feed alone. Else
    they are two apart, without their ends: every other value is what is between two lines.
    """
    import numpy as np
    import pyarrow as pa

    characters = np.frombuffer(text, np.uint8)
    blocks = [characters[begin : begin + _BLOCK] for begin in range(0, len(characters), _BLOCK)]
    if not blocks:
        return None, 1
    breaks = [np.flatnonzero(block == 0x0A) + begin * _BLOCK for begin, block in enumerate(blocks)]
    bounds = np.concatenate([[-1], *breaks]) + 1
    if bounds[-1] == len(text) and np.diff(bounds).min() > 1 and not any((block == 0x0D).any() for block in blocks):
        return pa.Array.from_buffers(pa.large_binary(), len(bounds) - 1, [None, pa.py_buffer(bounds), text]), 1
    starts, ends = bounds, np.append(bounds[1:] - 1, len(text))
    ends -= (ends > starts) & (characters[ends - 1] == 0x0D)
    has_text = ends > starts
    if not has_text.any():
        return None, 2
    places = np.column_stack([starts[has_text], ends[has_text]]).ravel()
    return pa.Array.from_buffers(pa.large_binary(), len(places) - 1, [None, pa.py_buffer(places), text]), 2


def _content(texts: Any) -> Any:
    """Return what the values of an arrow array of texts or bytes are, one after the other, as bytes."""
    import numpy as np
    import pyarrow.types as types

    _, places, data = texts.buffers()
    is_large = types.is_large_string(texts.type) or types.is_large_binary(texts.type)
    bounds = np.frombuffer(places, np.int64 if is_large else np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(data)[bounds[0] : bounds[-1]] if data else b""


def _columns(heading: bytes) -> list[str]:
    import csv

    return next(csv.reader([heading.decode(errors="surrogateescape")]))


def _crossed(rows: Any, keys: Any) -> Any:
    """Return the second party's rows so that with the first one's they are all pairs of equal keys.

    Where a key is in two rows here and three there, SecretFlow writes each row three times here, and twice there, one
    after the other: six rows at both, but not six pairs. ``rows``, int64, (rows,), and ``keys``, an arrow array: as PSI
    wrote them. Raises AlgorithmError where they are not so.
    """
    import numpy as np
    import pyarrow.compute as pc

    is_again = (rows[1:] == rows[:-1]) & (rows[1:] >= 0)
    if not is_again.any():
        return rows
    is_new = pc.not_equal(keys[1:], keys[:-1]).to_numpy() | ((rows[1:] < 0) != (rows[:-1] < 0))
    starts = np.flatnonzero(np.concatenate([[True], is_new]))
    sizes = np.diff(np.append(starts, len(rows)))
    own = np.add.reduceat(np.concatenate([[True], is_new | ~is_again]), starts, dtype=np.int64)
    is_of_both = (own > 1) & (own < sizes)
    starts, sizes, own = starts[is_of_both], sizes[is_of_both], own[is_of_both]
    if (sizes % own).any():
        raise AlgorithmError("PSI wrote rows with equal keys in an order that is not known")
    # Of each of these rows, its place among those with the same key, and their numbers
    firsts, counts, distinct = (np.repeat(found, sizes) for found in (starts, sizes, own))
    place = np.arange(len(firsts)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    changed = rows.copy()
    changed[firsts + place] = rows[firsts + place % distinct * (counts // distinct) + place // distinct]
    return changed


def _digest(texts: Any, key: bytes) -> str:
    """Return a keyed digest of texts (an arrow array) and of their order."""
    import numpy as np
    import pyarrow as pa

    digest, whole = hmac.new(key, digestmod=hashlib.sha256), texts.cast(pa.large_string())
    for chunk in whole.chunks:
        bounds = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        # Lengths first, then the texts: which says the same however the texts are cut into chunks
        digest.update(np.diff(bounds).tobytes())
    for chunk in whole.chunks:
        digest.update(_content(chunk))
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
