"""Makes many rows of one, in the database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.db import connection, models


class Dialect(NamedTuple):
    """SQL that databases write differently."""

    uuid: str
    ago: str
    json: str

    def row_id(self, kind: str, number: str = "i") -> str:
        return self.uuid.format(f"md5('{kind}' || ({number}))")

    def before_now(self, seconds: str) -> str:
        return self.ago.format(seconds)

    def document(self, value: Any, **replaced: str) -> str:
        """Return the SQL of a JSON value in which names are replaced by what SQL makes of them."""
        text = f"'{json.dumps(value)}'"
        for name, sql in replaced.items():
            text = f"replace({text}, '{name}', {sql})"
        return self.json.format(text)


DIALECTS = {
    "sqlite": Dialect("{}", "strftime('%Y-%m-%d %H:%M:%f000', 'now', (-1.0 * ({})) || ' seconds')", "{}"),
    "postgresql": Dialect("({})::uuid", "now() - ({}) * interval '1 second'", "({})::jsonb"),
}


def multiply(row: models.Model, number: int, newest_first: bool = False, **columns: str) -> None:
    """Replace the only row of a table by so many copies of it.

    ``columns``: SQL of what differs, by field; ``i`` counts from 0. A counting primary key rises with ``i``, or with
    ``newest_first`` falls.
    """
    meta, quote = type(row)._meta, connection.ops.quote_name
    if isinstance(meta.pk, models.AutoField):
        columns = {meta.pk.attname: f"{number} - i" if newest_first else "i + 1"} | columns
    names = {field.attname: quote(str(field.column)) for field in meta.concrete_fields}
    assert not (unknown := columns.keys() - names), f"{meta.label} has no {unknown}"
    values = [columns.get(attname, f"t.{name}") for attname, name in names.items()]
    table = quote(meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE template AS SELECT * FROM {table}")
        cursor.execute(f"DELETE FROM {table}")
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(names.values())}) "
            f"WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < {number - 1}) "
            f"SELECT {', '.join(values)} FROM numbers, template AS t"
        )
        cursor.execute("DROP TABLE template")


@contextmanager
def without_foreign_keys() -> Iterator[None]:
    """Check no foreign key meanwhile: it takes most of the time."""
    postgres = connection.vendor == "postgresql"
    off, on = (
        ("SET session_replication_role = replica; SET synchronous_commit = off", "RESET session_replication_role")
        if postgres
        else ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON")
    )
    with connection.cursor() as cursor:
        cursor.execute(off)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(on)
