"""Makes components read tables as CSV with commas and double quotes, whatever the cells look like."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class _Connection:
    """A connection to DuckDB that guesses nothing about the files: it is told their format.

    SecretFlow lets DuckDB guess. If cells have single quotes, it takes these for the quotes of the file: it reads
    ``'a'`` as ``a``, and fails if they do not come in pairs.
    """

    def __init__(self, *arguments: Any) -> None:
        import duckdb

        self._connection = duckdb.connect(*arguments)

    def read_csv(self, file: Any, **options: Any) -> Any:
        return self._connection.read_csv(file, **options, delimiter=",", quotechar='"', escapechar='"', header=True)


def read_as_written() -> None:
    """Have SecretFlow's CSV reader tell DuckDB the format of the files. May be called again."""
    import duckdb
    from secretflow.component.core import io

    # One name at a time: DuckDB's stubs do not know its module of types
    kept = {name: getattr(duckdb, name) for name in ("typing", "ColumnExpression")}
    io.duckdb = SimpleNamespace(connect=_Connection, **kept)
