"""Files that hold a table in another form than plain CSV: Parquet, ORC and Feather, compressed CSV, CSV without a
heading or with other marks, and tables of several files."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from workers.contract.errors import ConfigError
from workers.contract.wording import Text, hint
from workers.host.file_form import looks_like
from workers.host.gate import note_columns
from workers.host.tables import misfit_of, state_of, type_name

Format = Literal["csv", "parquet", "orc", "feather"]
#: Formats by the ends of names; every other name is CSV's, which may be compressed.
_BY_ENDING: Mapping[str, Format] = {
    ".parquet": "parquet", ".pq": "parquet", ".orc": "orc", ".feather": "feather", ".arrow": "feather",
}  # fmt: skip
_COMPRESSED = (".gz", ".bz2", ".lz4", ".zst")
#: What a pattern of several files has.
_WILD = frozenset("*?[")
#: Errors of the host, and not of the file.
_OF_THE_HOST = (errno.ENOSPC, errno.EDQUOT)
#: Rows that are read at once.
_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class FileForm:
    """How the files of a table are read, where party.toml says so."""

    #: The format, if the ends of the files' names do not say it.
    format: Format | None = None
    #: Encoding and delimiter of CSV, if it is not UTF-8 with commas.
    encoding: str | None = None
    delimiter: str | None = None
    #: Names of the columns of CSV without a heading.
    header: tuple[str, ...] | None = None
    #: Quotes of CSV, if not double ones; and the decimal mark of its columns of numbers, if not the point.
    quote: str | None = None
    decimal: str | None = None
    #: Texts that stand for an empty cell.
    nulls: tuple[str, ...] = ()
    #: New names of columns, by those in the files.
    rename: Mapping[str, str] = field(default_factory=dict)
    #: Only rows with one of these texts, by column.
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Only so many rows.
    limit: int | None = None


def files_of(path: Path, form: FileForm) -> list[Path]:
    """Return the files of a table in the order in which they are read: of a directory all with the ending of a format,
    but for hidden ones, or all that a pattern names."""
    if _WILD & set(path.name):
        return sorted(found for found in path.parent.glob(path.name) if found.is_file())
    if path.is_dir():
        found = (one for one in path.rglob("*") if one.is_file() and not _is_hidden(one.relative_to(path)))
        return sorted(one for one in found if form.format or _is_table(one))
    return [path]


def states_of(path: Path, form: FileForm) -> list[tuple[int, ...]]:
    """Return what changes when somebody edits, adds or removes one of the files. Raises OSError."""
    return [state_of(file) for file in files_of(path, form)]


def is_several(path: Path) -> bool:
    """Return whether a table has several files."""
    return bool(_WILD & set(path.name)) or path.is_dir()


def is_plain(path: Path, form: FileForm) -> bool:
    """Return whether it is one file of CSV that is read as it is."""
    return (
        form == FileForm() and not is_several(path) and _format(path, form) == "csv" and path.suffix not in _COMPRESSED
    )


def blocks_of(
    path: Path, dataset: str, form: FileForm, columns: tuple[str, ...] | None, types: Mapping[str, str]
) -> tuple[list[str], dict[str, str], Iterator[Any]]:
    """Return the names of the columns, the types that the files say they have, and blocks of rows: arrow record batches
    of strings, in which an empty cell is an empty text.

    ``columns``: those that are wanted, if not all. ``types``: those that party.toml declares. Raises
    ConfigError.
    """
    import pyarrow as pa

    files = files_of(path, form)
    if not files:
        raise ConfigError("the files of dataset {} are missing on this host; check party.toml", dataset)
    root = path if path.is_dir() else path.parent
    first = _File(files[0], root, dataset, form)
    names = [form.rename.get(name, name) for name in first.names]
    note_columns(names)
    for column in form.rename:
        if column not in first.names:
            raise ConfigError(
                "party.toml renames column {!r}, which dataset {} does not have; {}",
                column,
                dataset,
                hint(column, first.names),
            )
    for column in form.where:
        if column not in names:
            raise ConfigError(
                "party.toml chooses rows by column {!r}, which dataset {} does not have; {}",
                column,
                dataset,
                hint(column, names),
            )
    for column in columns or ():
        if column not in names:
            raise ConfigError(
                "party.toml allows column {!r}, which dataset {} does not have; {}",
                column,
                dataset,
                hint(column, names),
            )
    wanted = [name for name in names if columns is None or name in columns]
    seen = {form.rename.get(name, name): kind for name, kind in first.types.items()}
    needed = [old for old, new in zip(first.names, names, strict=True) if new in wanted or new in form.where]
    decimals = [name for name in wanted if form.decimal and types.get(name) in ("int", "float")]

    def blocks() -> Iterator[Any]:
        left = form.limit
        for file in files:
            opened = _File(file, root, dataset, form)
            if opened.names != first.names:
                raise ConfigError(
                    "the files of dataset {} have unlike columns: {}; keep those with other columns elsewhere",
                    dataset,
                    sorted(set(opened.names) ^ set(first.names)) or Text("in unlike orders"),
                )
            for block in opened.blocks(needed):
                renamed = [form.rename.get(name, name) for name in block.schema.names]
                found = _chosen(pa.RecordBatch.from_arrays(block.columns, renamed), form)
                if left is not None:
                    found = found.slice(0, left)
                    left -= found.num_rows
                if found.num_rows:
                    yield _with_marks(found.select(wanted), form, decimals)
                if left == 0:
                    return

    return wanted, {name: kind for name, kind in seen.items() if name in wanted}, blocks()


class _File:
    """One file of a table, and what its directories say: ``year=2024`` is a column of all its rows."""

    def __init__(self, path: Path, root: Path, dataset: str, form: FileForm) -> None:
        self.path, self.dataset, self.form = path, dataset, form
        self.format = _format(path, form)
        parts = (part.partition("=") for part in path.relative_to(root).parent.parts)
        self.parts = {name: value for name, sign, value in parts if sign}
        #: Types by column, where the format has them.
        self.types: dict[str, str] = {}
        if self.format == "csv":
            held = self._heading()
        else:
            schema = self._said(self._schema)
            held = schema.names
            # Whole numbers of 64 bits without a sign are looked at one by one: some may be too large
            self.types = {one.name: type_name(_plain(one.type)) for one in schema if str(one.type) != "uint64"}
        self._held = held
        self.names = [*held, *(name for name in self.parts if name not in held)]

    def blocks(self, names: list[str]) -> Iterator[Any]:
        """Yield blocks of these columns, as strings. Raises ConfigError."""
        import pyarrow as pa

        held = [name for name in names if name in self._held]
        for block in self._csv(held) if self.format == "csv" else self._typed(held):
            columns = {name: block.column(name) for name in held}
            for name in names:
                if name not in columns:
                    columns[name] = pa.array([self.parts[name]] * block.num_rows, pa.string())
            yield pa.record_batch([columns[name] for name in names], names)

    def _heading(self) -> list[str]:
        if self.form.header:
            return list(self.form.header)
        with self._csv_said(), self._open_csv() as reader:
            names: list[str] = reader.schema.names
        if len(names) == 1 and self.form.delimiter and any(sign in names[0] for sign in ",;|\t"):
            raise ConfigError(
                "dataset {} has one column alone, {!r}; put its delimiter right in party.toml", self.dataset, names[0]
            )
        return names

    def _csv(self, names: list[str]) -> Iterator[Any]:
        from pyarrow import csv

        # As text, so that the values come out as they are written
        convert = csv.ConvertOptions(include_columns=names, column_types=dict.fromkeys(names, "string"))
        with self._csv_said(), self._open_csv(convert) as reader:
            yield from reader

    def _open_csv(self, convert: Any = None) -> Any:
        from pyarrow import csv

        form = self.form
        read = csv.ReadOptions(encoding=form.encoding or "utf-8", column_names=form.header)
        parse = csv.ParseOptions(delimiter=form.delimiter or ",", quote_char=form.quote or '"')
        return csv.open_csv(self.path, read, parse, convert)

    @contextmanager
    def _csv_said(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno in _OF_THE_HOST:
                raise
            encoding = self.form.encoding or "utf-8"
            if isinstance(error, UnicodeError):
                wrong = f"is not {encoding} throughout"
            elif misfit := misfit_of(error):
                wrong = f"does not fit: {misfit}"
            else:
                wrong = f"cannot be read as CSV in {encoding}"
            found = looks_like(self.path, delimiter=self.form.delimiter is None)
            remedy = found or "put its encoding and delimiter right in party.toml, or the file"
            raise ConfigError("the file of dataset {} {}; {}", self.dataset, Text(wrong), Text(remedy)) from None

    def _typed(self, names: list[str]) -> Iterator[Any]:
        batches = self._said(lambda: self._batches(names))
        while (block := self._said(lambda: next(batches, None))) is not None:
            yield self._as_text(block, names)

    def _said(self, act: Any) -> Any:
        """Return what a reader returns. Raises ConfigError for what is wrong with the file: the library's own text may
        quote rows and paths."""
        import pyarrow as pa

        try:
            return act()
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno in _OF_THE_HOST:
                raise
            raise ConfigError(
                "a file of dataset {} cannot be read as {}; it may be cut off, or have another format",
                self.dataset,
                Text(self.format.capitalize()),
            ) from None

    def _schema(self) -> Any:
        if self.format == "parquet":
            from pyarrow import parquet

            return parquet.read_schema(self.path)
        if self.format == "orc":
            from pyarrow import orc

            return orc.ORCFile(self.path).schema
        from pyarrow import ipc

        with ipc.open_file(str(self.path)) as reader:
            return reader.schema

    def _batches(self, names: list[str]) -> Iterator[Any]:
        if self.format == "parquet":
            from pyarrow import parquet

            yield from parquet.ParquetFile(self.path).iter_batches(_ROWS, columns=names)
        elif self.format == "orc":
            from pyarrow import orc

            file = orc.ORCFile(self.path)
            for number in range(file.nstripes):
                yield file.read_stripe(number, names)
        else:
            from pyarrow import ipc

            with ipc.open_file(str(self.path)) as reader:
                for number in range(reader.num_record_batches):
                    yield reader.get_batch(number)

    def _as_text(self, block: Any, names: list[str]) -> Any:
        import pyarrow as pa
        import pyarrow.types as kinds

        columns = []
        for name in names:
            column = block.column(name)
            plain = column.dictionary_decode() if kinds.is_dictionary(column.type) else column
            if kinds.is_nested(plain.type) or kinds.is_binary(plain.type) or kinds.is_large_binary(plain.type):
                what = "lists or records" if kinds.is_nested(plain.type) else "bytes"
                raise ConfigError(
                    "column {!r} of dataset {} has {}, which no task can use; leave it out of the file",
                    name,
                    self.dataset,
                    Text(what),
                )
            columns.append(plain.cast(pa.string()).fill_null(""))
        return pa.record_batch(columns, names)


def _plain(kind: Any) -> Any:
    import pyarrow.types as kinds

    return kind.value_type if kinds.is_dictionary(kind) else kind


def _chosen(block: Any, form: FileForm) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    for column, texts in form.where.items():
        block = block.filter(pc.is_in(block.column(column), pa.array(texts)))
    return block


def _with_marks(block: Any, form: FileForm, decimals: Iterable[str]) -> Any:
    """Return the block with empty cells where a text stands for one, and decimal points."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = []
    for name, column in zip(block.schema.names, block.columns, strict=True):
        if form.nulls:
            column = pc.if_else(pc.is_in(column, pa.array(form.nulls)), "", column)
        if name in decimals:
            column = pc.replace_substring(column, form.decimal, ".")
        columns.append(column)
    return pa.record_batch(columns, block.schema.names)


def _format(path: Path, form: FileForm) -> Format:
    return form.format or _BY_ENDING.get(path.suffix.lower(), "csv")


def _is_table(path: Path) -> bool:
    name = path.with_suffix("") if path.suffix in _COMPRESSED else path
    return name.suffix.lower() in {*_BY_ENDING, ".csv"}


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)
