"""The rows of a list as CSV, for spreadsheets and scripts."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext

from controlplane.spreadsheets import cell

#: Rows that a file has at most; it says so itself where rows are missing.
MOST_ROWS = 100_000
#: Head of each column, and the name of a field or a function of a row.
Columns = tuple[tuple[str, str | Callable[[Any], Any]], ...]
_AT_ONCE = 500


class _Line:
    """Takes what ``csv.writer`` writes, and returns it."""

    def write(self, text: str) -> str:
        return text


def download(request: HttpRequest, name: str, columns: Columns, rows: QuerySet[Any]) -> StreamingHttpResponse:
    """Return the rows as a file, which is made while it is sent."""
    lines = _lines(columns, rows)
    # Each kind of server takes its own kind of iterator; of the other kind it would first make the whole file
    content: Any = _asynchronously(lines) if isinstance(request, ASGIRequest) else lines
    file = f"{name} {timezone.now():%Y-%m-%d}.csv".replace(" ", "_")
    headers = {"Content-Disposition": f'attachment; filename="{file}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(content, content_type="text/csv; charset=utf-8", headers=headers)


def _lines(columns: Columns, rows: QuerySet[Any]) -> Iterator[str]:
    writer: Any = csv.writer(_Line())
    yield writer.writerow([head for head, _ in columns])
    for number, row in enumerate(rows[: MOST_ROWS + 1].iterator(chunk_size=_AT_ONCE)):
        if number == MOST_ROWS:
            yield writer.writerow(
                [gettext("Cut after {number:,} rows. Filter the list for the others.").format(number=MOST_ROWS)]
            )
            return
        yield writer.writerow([cell(_value(row, of)) for _, of in columns])


async def _asynchronously(lines: Iterator[str]) -> AsyncIterator[str]:
    def some() -> str:
        return "".join(islice(lines, _AT_ONCE))

    while part := await sync_to_async(some)():
        yield part


def _value(row: Any, of: str | Callable[[Any], Any]) -> Any:
    return getattr(row, of) if isinstance(of, str) else of(row)
