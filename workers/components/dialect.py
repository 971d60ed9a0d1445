"""Tables as components read them: with commas and double quotes, whatever their cells look like."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class _Connection:
    """A connection to DuckDB that is told how the files are written, and guesses nothing.

    SecretFlow lets it guess. Where cells have single quotes it takes these for the quotes of the file: it reads ``'a'``
    as ``a``, and fails where they do not come in pairs.
    """

    def __init__(self, *arguments: Any) -> None:
        import duckdb

        self._connection = duckdb.connect(*arguments)

    def read_csv(self, file: Any, **options: Any) -> Any:
        return self._connection.read_csv(file, **options, delimiter=",", quotechar='"', escapechar='"', header=True)


def read_as_written() -> None:
    """Have SecretFlow's reader of CSV tell DuckDB how the files are written. May be called again."""
    import duckdb
    from secretflow.component.core import io

    # A name at a time: the stubs of DuckDB do not know its module of types
    kept = {name: getattr(duckdb, name) for name in ("typing", "ColumnExpression")}
    io.duckdb = SimpleNamespace(connect=_Connection, **kept)
