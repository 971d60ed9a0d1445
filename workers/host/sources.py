"""A party's tables as executors read them: CSV in UTF-8 with commas, whatever the files on the host are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workers.contract.catalogue import TABLE
from workers.contract.errors import ConfigError
from workers.contract.wording import Text
from workers.host.table_files import FileForm, blocks_of, is_plain, is_several
from workers.host.tables import (
    CODE,
    NO_NUMBER,
    check_there,
    column_types,
    declare,
    guessed_types,
    read_text,
    text_blocks,
)

_MARK = b"\xef\xbb\xbf"
_BLOCK = 1 << 20
#: Patterns of the cells that a declared type allows, besides empty ones.
_PATTERNS = {
    "int": r"^\s*[+-]?\d+\s*$",
    "bool": r"^\s*([tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|[01])\s*$",
    "float": r"^\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|[iI][nN][fF]([iI][nN][iI][tT][yY])?)\s*$",
}
_WORDS = {"int": "a whole number of 64 bits", "float": "a number", "bool": "true or false"}


#: By the type that a column's values look like: the registered types that it may take. Text may look like anything.
#: Where numbers are registered and the values are text, the pre-flight checks report it.
_MAY_BE = {"int": ("str", "float", "bool"), "float": ("str",), "bool": ("str",), CODE: ("int", "float")}


@dataclass(frozen=True, slots=True)
class Source:
    """Something that this party has: a table of party.toml, or an output of an earlier execution."""

    name: str
    path: Path
    kind: str = TABLE
    #: Alignment of its rows: tables of the same alignment have the same rows, line by line. None if it is not known.
    alignment: str | None = None
    #: Types of columns that are declared, or known from the tables that this one was made of.
    types: Mapping[str, str] = field(default_factory=dict)
    #: Types of columns that its files have.
    file_types: Mapping[str, str] = field(default_factory=dict)
    #: Types of columns that the control plane has registered and this host does not declare.
    registered_types: Mapping[str, str] = field(default_factory=dict)
    #: How its files are read. Of all but plain CSV executors get a converted copy.
    form: FileForm = field(default_factory=FileForm)
    #: Columns that tasks may use, if not all: the copy has no others.
    columns: tuple[str, ...] | None = None


def readable(
    sources: Mapping[str, Source], directory: Path, registered: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, Source]:
    """Return the sources by role, as executors read them, and declare the types of their columns.

    A table in another encoding, with another delimiter or with a byte order mark is converted into a private file in
    ``directory``, once, in blocks. Raises ConfigError if that is not possible, or if a declared type does not fit.
    ``registered``: by table, the types that the control plane has; this host's own take precedence.
    """
    tables: dict[str, Source] = {}
    for source in sources.values():
        if source.kind == TABLE and source.name not in tables:
            tables[source.name] = _plain(source, directory / f"table_{len(tables)}.csv")
    for name, types in (registered or {}).items():
        if name in tables and types:
            tables[name] = _with_registered(tables[name], types)
    declare({(table.path, table.name): _all_types(table) for table in tables.values()})
    for table in tables.values():
        _check_types(table)
    return {role: tables[source.name] if source.kind == TABLE else source for role, source in sources.items()}


def needs_copy(source: Source) -> bool:
    """Return whether a table has to be converted before executors read it. Raises ConfigError if it is not there."""
    if source.kind != TABLE:
        return False
    if not is_several(source.path):
        check_there(source.path, source.name)  # opening what is no file may never end
    is_converted = source.columns is not None or not is_plain(source.path, source.form)
    return is_converted or _has_mark(source.path)


def _plain(source: Source, target: Path) -> Source:
    if not needs_copy(source):
        return source
    target.touch(mode=0o600)
    if source.columns is None and is_plain(source.path, source.form):
        _without_mark(source.path, target)
        return replace(source, path=target)
    return replace(source, path=target, file_types=_convert(source, target), form=FileForm(), columns=None)


def _has_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MARK)) == _MARK
    except (OSError, ValueError):  # the reader reports it
        return False


def _without_mark(path: Path, target: Path) -> None:
    with path.open("rb") as file, target.open("wb") as written:
        file.seek(len(_MARK))
        while block := file.read(_BLOCK):
            written.write(block)


def _convert(source: Source, target: Path) -> dict[str, str]:
    """Write the table as CSV in UTF-8 with commas. Returns the types that its files say its columns have. Raises
    ConfigError."""
    import pyarrow as pa

    names, types, blocks = blocks_of(source.path, source.name, source.form, source.columns, source.types)
    with target.open("wb") as written:
        written.write(_as_csv(pa.table([[name] for name in names], [str(i) for i in range(len(names))])))
        for block in blocks:
            written.write(_as_csv(block))
    return types


def _as_csv(block: Any) -> bytes:
    """Return rows of text as CSV, with quotes only if a row of the block needs them."""
    import pyarrow as pa
    from pyarrow import csv

    for quoting in ("none", "needed"):
        sink = pa.BufferOutputStream()
        try:
            csv.write_csv(block, sink, csv.WriteOptions(include_header=False, quoting_style=quoting))
        except pa.ArrowInvalid:  # "none" cannot write a comma
            continue
        if quoting == "none" and len(block.schema) == 1:
            continue  # an empty line is not a row
        return bytes(sink.getvalue())
    raise ConfigError("a table has text that cannot be written as CSV")


def _with_registered(table: Source, types: Mapping[str, str]) -> Source:
    guessed = guessed_types(table.path, table.name)
    return replace(
        table,
        registered_types={
            column: kind
            for column, kind in types.items()
            if column not in _known_types(table) and kind in _MAY_BE.get(guessed.get(column, ""), ())
        },
    )


def _known_types(table: Source) -> dict[str, str]:
    return {**table.file_types, **table.types}


def _all_types(table: Source) -> dict[str, str]:
    return {**table.registered_types, **_known_types(table)}


def _check_types(table: Source) -> None:
    """Raise ConfigError naming the first line whose value does not fit the type that is declared for its column."""
    # What a file says of itself holds
    types = {column: kind for column, kind in _all_types(table).items() if table.file_types.get(column) != kind}
    if not types:
        return
    column_types(table.path, table.name)  # reports declared columns that are missing
    checked = {column: kind for column, kind in types.items() if kind in _PATTERNS}
    done = 0
    for block in text_blocks(table.path, table.name, list(checked)) if checked else ():
        for column, text in zip(block.schema.names, block.columns, strict=True):
            if (row := _first_misfit(text, checked[column])) is not None:
                line = _line_of(table.path, done + row)
                said, place = ("declared", "in party.toml")
                if column not in table.types:
                    said, place = ("registered as", "on the dataset's page of the control plane")
                raise ConfigError(
                    "column {!r} of dataset {} is {} {}, and line {} has something else than {}; correct the value, "
                    "or the type {}",
                    column,
                    table.name,
                    Text(said),
                    checked[column],
                    line,
                    Text(_WORDS[checked[column]]),
                    Text(place),
                )
        done += block.num_rows


def _first_misfit(text: Any, kind: str) -> int | None:
    """Return the index of the first cell that does not fit; empty cells fit."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.utf8_trim_whitespace(text)
    fits = pc.or_(pc.is_in(plain, pa.array(NO_NUMBER)), pc.match_substring_regex(plain, _PATTERNS[kind]))
    fits = fits.to_numpy(zero_copy_only=False).copy()
    if kind == "int":
        for row in np.flatnonzero(pc.greater(pc.utf8_length(plain), 18).to_numpy(zero_copy_only=False) & fits).tolist():
            fits[row] = -(2**63) <= int(plain[row].as_py()) < 2**63
    wrong = np.flatnonzero(~fits)
    return int(wrong[0]) if len(wrong) else None


def _line_of(path: Path, row: int) -> int:
    """Return the line number of a row, counted as people do: the heading is line 1."""
    number, filled, is_filled = 1, -1, False
    with path.open("rb") as file:
        # Not by whole lines: one may be as long as the file
        while piece := file.readline(_BLOCK):
            if not is_filled and piece.strip(b"\r\n"):
                filled, is_filled = filled + 1, True
                if filled == row + 1:
                    return number
            if piece.endswith(b"\n"):
                number, is_filled = number + 1, False
    return row + 2


def types_of_output(path: Path, name: str, sources: Iterable[Source], known: Mapping[str, str]) -> dict[str, str]:
    """Return the types of the columns of a table that a run made of this party's ``sources``. Raises ConfigError.

    A column keeps the type that it has in a source if all its cells come from that source: a few rows, or none, often
    look like another type. ``known``: types that the table's maker reports.
    """
    found = column_types(path, name)
    for source in sources:
        if source.kind != TABLE:
            continue
        had = column_types(source.path, source.name)
        for column, kind in found.items():
            if column not in known and column in had and had[column] != kind:
                known = {**known, **_held(path, name, source, column, had[column])}
    return {column: known.get(column, kind) for column, kind in found.items()}


def _held(path: Path, name: str, source: Source, column: str, kind: str) -> dict[str, str]:
    """Return the column's type in the source if all its cells in a table come from there, otherwise None."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        cells = read_text(path, name, [column])[column].unique()
        there = read_text(source.path, source.name, [column])[column]
    except ConfigError:  # the file is not UTF-8
        return {}
    cells = cells.filter(pc.invert(pc.is_in(cells, pa.array(NO_NUMBER))))
    is_from_there = pc.all(pc.is_in(cells, there.combine_chunks())).as_py()
    return {column: kind} if is_from_there in (True, None) else {}
