"""Reading a party's own tables. CSV with a header line; pyarrow reads them natively, in blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workers.contract.errors import ConfigError
from workers.contract.wording import Text, hint
from workers.host import known
from workers.host.codes import columns_of_codes
from workers.host.file_form import looks_like
from workers.host.gate import note_columns

#: Texts that mean an empty cell in a column of numbers. In a column of text only a cell without a character is empty.
NO_NUMBER = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "NULL",
    "NaN", "n/a", "nan", "null",
)  # fmt: skip
#: float64 can represent every whole number below this.
WHOLE_LIMIT = 2.0**53
_MISFIT = "dataset {} has a line that does not fit its columns or is not UTF-8"
_NO_CSV = "the file of dataset {} cannot be read as CSV with a header line"

#: Longest first line of a table, in bytes: pyarrow reads no further for it.
_MOST_HEADING = 1 << 20
#: Guessed type of a column that looks like numbers and is text.
CODE = "code"

#: Declared types of columns of a run's tables, by path and dataset. All functions of this module use them. Only
#: ``workers.host.sources`` changes them.
_declared: dict[tuple[Path, str], Mapping[str, str]] = {}


def declare(types: Mapping[tuple[Path, str], Mapping[str, str]]) -> None:
    """Replace the declared types of columns by these, by path and dataset."""
    _declared.clear()
    _declared.update(types)
    for columns in types.values():
        note_columns(columns)


def column_types(path: Path, dataset: str) -> dict[str, str]:
    """Return each column's type, ``int``, ``float``, ``str`` or ``bool``: as declared, otherwise as the values look.

    Columns are guessed by the first block of the file; those of codes, such as 007, by the whole file.
    Raises ConfigError naming the dataset, never the path: error texts leave the party.
    """
    guessed = seen_types(path, dataset)
    declared = _declared.get((path, dataset), {})
    for column in declared:
        if column not in guessed:
            raise ConfigError(
                "party.toml declares a type for column {!r}, which dataset {} does not have; {}",
                column,
                dataset,
                hint(column, guessed),
            )
    return {**guessed, **declared}


def seen_types(path: Path, dataset: str) -> dict[str, str]:
    """Return the types that the values look like, whatever is declared."""
    return {column: "str" if kind == CODE else kind for column, kind in guessed_types(path, dataset).items()}


def guessed_types(path: Path, dataset: str) -> dict[str, str]:
    """Return the types as ``seen_types`` does, but ``CODE`` for columns of digits that are text."""
    check_there(path, dataset)
    guessed: dict[str, str] = known.about(path, state_of(path), ["types"], lambda: _guess(path, dataset))
    note_columns(guessed)
    return dict(guessed)


def check_there(path: Path, dataset: str) -> None:
    """Raise ConfigError if a table's file does not exist."""
    try:
        there = path.is_file()
    except OSError:  # a directory of the path cannot be entered, or a name is too long
        there = False
    if not there:
        raise ConfigError("the file of dataset {} is missing on this host; check party.toml", dataset)


def _guess(path: Path, dataset: str) -> dict[str, str]:
    import pyarrow as pa
    from pyarrow import csv

    try:
        with csv.open_csv(path) as reader:
            schema = reader.schema
            names = schema.names  # column names are decoded here, not before
            note_columns(names)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        if (size := _size_of_heading(path)) > _MOST_HEADING:
            raise ConfigError(
                "the heading of dataset {} has {:,} bytes, and {:,} at most are read; keep fewer columns or shorter "
                "names; if the table has few columns, check its line ends and quotes",
                dataset,
                size,
                _MOST_HEADING,
            ) from None
        raise _unreadable(error, Text(_NO_CSV, dataset), path) from None
    if any("\0" in name for name in names):  # UTF-16 without a byte order mark
        raise _unreadable(ValueError(), Text(_NO_CSV, dataset), path)
    _check_headings(names, dataset)
    if len(names) == 1 and (form := looks_like(path, delimiter=True)):
        raise ConfigError("dataset {} has one column alone, {!r}: {}", dataset, names[0], Text(form))
    found = {field.name: type_name(field.type) for field in schema}
    numeric = [column for column, kind in found.items() if kind in ("int", "float")]
    codes = columns_of_codes(path, _quietly(text_in_blocks(path, dataset, numeric))) if numeric else set()
    return {column: CODE if column in codes else kind for column, kind in found.items()}


def _size_of_heading(path: Path) -> int:
    """Return how many bytes there are before the first line end, counting no further than 1 GiB."""
    size = 0
    with path.open("rb") as file:
        while (block := file.readline(1 << 20)) and size < 1 << 30:
            size += len(block)
            if block.endswith(b"\n"):
                break
    return size


def _check_headings(names: list[str], dataset: str) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise ConfigError(
                "dataset {} has no heading over column {} of {}; name the column, or leave it out (pandas writes its "
                "index so: use to_csv(index=False))",
                dataset,
                number,
                len(names),
            )
        if name in seen:
            raise ConfigError("dataset {} has column {!r} twice; give each column a name of its own", dataset, name)
        seen.add(name)


def _quietly(blocks: Iterator[Any]) -> Iterator[Any]:
    """Yield blocks up to the first line that cannot be read. The reader of the column reports what is wrong with it."""
    try:
        yield from blocks
    except ConfigError:
        return


def refuse_text(path: Path, dataset: str, column: str) -> None:
    """Raise ConfigError if one of these columns is text, even if it looks like digits: party.toml says so, or it has
    codes."""
    wrong = Text("column {!r} of dataset {} is not numeric", column, dataset)
    declared = _declared.get((path, dataset), {}).get(column)
    if declared == "str":
        raise ConfigError("{}: its declared type is str", wrong)
    if declared is None and guessed_types(path, dataset).get(column) == CODE:
        raise ConfigError(
            "{}: it has codes, such as 007 or whole numbers beyond 64 bits; if they are quantities, declare the "
            "column int or float under types of this dataset in party.toml",
            wrong,
        )

    if declared is None and _has_decimal_commas(path, dataset, column):
        raise ConfigError(
            "{}: its values look like numbers with decimal commas, such as 1,5; write them with decimal points", wrong
        )


def _has_decimal_commas(path: Path, dataset: str, column: str) -> bool:
    """Return whether the first block has only numbers, and one of them a decimal comma."""
    import pyarrow.compute as pc

    found = next(text_blocks(path, dataset, [column]), None)
    if found is None:
        return False
    cells = found.column(0).filter(pc.not_equal(found.column(0), ""))
    is_number = pc.match_substring_regex(cells, r"^\s*[+-]?\d+(\.\d{3})*(,\d+)?\s*$")
    return bool(pc.all(is_number).as_py() and pc.any(pc.match_substring(cells, ",")).as_py())


def count_rows(path: Path, dataset: str) -> int:
    """Return the number of rows. Reads in blocks, so a table may have any size. Raises ConfigError."""
    first = next(iter(column_types(path, dataset)))
    return sum(block.num_rows for block in _blocks(path, dataset, {first: "binary"}))


def read_columns(path: Path, dataset: str, columns: list[str]) -> Any:
    """Return the columns as a ``float64`` array of shape (rows, len(columns)).

    Raises ConfigError if a column is missing, not numeric, or has empty or infinite values.
    """
    import numpy as np
    import pyarrow as pa

    known = types_of(path, dataset, columns)
    if not columns:
        if not (rows := count_rows(path, dataset)):
            raise ConfigError("dataset {} has no rows", dataset)
        return np.empty((rows, 0))
    for column in columns:
        if known[column] == "str" and _has_rows(path, dataset):
            refuse_text(path, dataset, column)
            raise ConfigError("column {!r} of dataset {} is not numeric", column, dataset)
    # Not inferred a second time: pyarrow would look at the whole file, whose last line may not be a number
    kinds = {column: "bool" if known[column] == "bool" else "float64" for column in columns}
    table = _read(path, dataset, list(dict.fromkeys(columns)), kinds)
    if table.num_rows == 0:
        raise ConfigError("dataset {} has no rows", dataset)
    arrays = []
    for column in columns:
        values = table.column(column)
        if values.null_count:
            raise ConfigError("column {!r} of dataset {} has {} empty values", column, dataset, values.null_count)
        array = values.cast(pa.float64()).to_numpy()
        if known[column] == "int" and len(array) and np.abs(array).max() >= WHOLE_LIMIT:
            raise ConfigError(
                "column {!r} of dataset {} has whole numbers of 2^53 and more, which would be rounded; declare it str "
                "in party.toml where it is a code, otherwise subtract a constant from it or divide it",
                column,
                dataset,
            )
        if infinite := int(np.isinf(array).sum()):
            raise ConfigError("column {!r} of dataset {} has {} infinite values", column, dataset, infinite)
        arrays.append(array)
    return np.column_stack(arrays)


def read_text(path: Path, dataset: str, columns: list[str]) -> dict[str, Any]:
    """Return the columns as they are written, each an arrow array of strings. Raises ConfigError where one is
    missing."""
    types_of(path, dataset, columns)
    table = _read(path, dataset, columns, dict.fromkeys(columns, "string"))
    return {column: table.column(column) for column in columns}


def text_blocks(path: Path, dataset: str, columns: list[str]) -> Iterator[Any]:
    """Yield the columns as they are written, in blocks of rows (arrow record batches of strings), so a table may have
    any size.

    Raises ConfigError where one is missing, or a line does not fit.
    """
    types_of(path, dataset, columns)
    yield from text_in_blocks(path, dataset, columns)


def text_in_blocks(path: Path, dataset: str, columns: list[str]) -> Iterator[Any]:
    """Yield blocks as ``text_blocks`` does, of columns that are known to be there."""
    yield from _blocks(path, dataset, dict.fromkeys(columns, "string"))


def types_of(path: Path, dataset: str, columns: list[str]) -> dict[str, str]:
    """Return the table's column types. Raises ConfigError if one of these columns is missing."""
    known = column_types(path, dataset)
    for column in columns:
        if column not in known:
            raise ConfigError("dataset {} has no column {!r}", dataset, column)
    return known


def _has_rows(path: Path, dataset: str) -> bool:
    return bool(_read(path, dataset, []).num_rows)


def _blocks(path: Path, dataset: str, types: dict[str, str]) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ConvertOptions(include_columns=list(types), column_types=types)
    try:
        with csv.open_csv(path, convert_options=options) as reader:
            yield from reader
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise _unreadable(error, Text(_MISFIT, dataset), path) from None


def _read(path: Path, dataset: str, columns: list[str], types: dict[str, str] | None = None) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ConvertOptions(include_columns=columns, column_types=types)
    try:
        return csv.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise _unreadable(error, Text(_MISFIT, dataset), path) from None


def _unreadable(error: Exception, text: Text, path: Path) -> ConfigError:
    """Return an error that names the row, if pyarrow does, and what the file looks like. pyarrow's own text would quote
    the row."""
    misfit = misfit_of(error)
    form = looks_like(path, delimiter=bool(misfit))
    return ConfigError("{}{}{}", text, Text(f": {misfit}" if misfit else ""), Text(f"; {form}" if form else ""))


def misfit_of(error: Exception) -> str:
    """Return which line has another number of values than the heading, going by pyarrow's text; empty if none has."""
    found = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", str(error))
    if not found:
        return ""
    return f"{f'line {found[1]}' if found[1] else 'a line'} has {found[3]} values for {found[2]} columns"


def state_of(path: Path) -> tuple[int, ...]:
    """Return what of a file changes when somebody edits or replaces it. Raises OSError, or ValueError of no path."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def type_name(kind: Any) -> str:
    """Return our name of an arrow type."""
    import pyarrow.types as types

    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind):
        return "int"
    if types.is_floating(kind) or types.is_decimal(kind):
        return "float"
    return "str"
