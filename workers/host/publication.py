"""Reports the tables of party.toml to the control plane: names, columns, and, if the policy allows it, counts.

The tables go into the party's stream, in as many reports as they need, then a last report with all their names. A
coordinator answers with a verdict for each table, in a list for this publication.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from uuid import uuid4

from redis import Redis

from workers.contract.connection import when_it_takes_writes
from workers.contract.documents import column_problems
from workers.contract.errors import ConfigError
from workers.contract.events import REPORT_LIMIT, shortened
from workers.contract.keys import answers_to
from workers.contract.reports import DATASETS, MOST_DATASETS, PROBLEM_LENGTH
from workers.contract.wording import Quoted
from workers.host.gate import Gate
from workers.host.party import PartyHost
from workers.host.sources import readable
from workers.host.stream import Stream

#: Bytes of a report without its tables.
_AROUND = 1000
#: How long a publication waits for a Redis that takes no writes, in seconds.
PATIENCE = 600.0


def describe(host: PartyHost) -> dict[str, dict[str, Any]]:
    """Return each registered table as far as the party's policy allows: ``columns``, ``rows`` and ``alignment``, or
    ``error``.

    Raises ConfigError where the policy allows nothing.
    """
    if not host.publishes("columns"):
        raise ConfigError('party.toml says publish = "nothing"; set "columns", or "counts" to tell row counts too')
    found: dict[str, dict[str, Any]] = {}
    for name, source in host.registered().items():
        try:
            with host.workdirs.private("publish") as directory:
                [table] = readable({"": source}, directory).values()
                found[name] = host.published(host.describe(table)) | {"alignment": source.alignment}
            _check(name, found[name])
        except ConfigError as error:
            found[name] = {"error": shortened(Gate(host, name).error(error), PROBLEM_LENGTH)}
    return found


def _check(name: str, table: Mapping[str, Any]) -> None:
    """Raise ConfigError if the control plane would refuse the table."""
    if wrong := column_problems(table["columns"]):
        raise ConfigError("dataset {} cannot be registered: {}", name, Quoted("; ".join(wrong)))
    if (size := len(json.dumps(table))) > REPORT_LIMIT - _AROUND:
        raise ConfigError(
            "dataset {} cannot be registered: the names of its {:,} columns take {:,} bytes, and the control plane "
            "takes {:,}; register a table with fewer columns",
            name,
            len(table["columns"]),
            size,
            REPORT_LIMIT - _AROUND,
        )


def publish(stream: Stream, found: Mapping[str, Mapping[str, Any]], say: Callable[[str], object]) -> str:
    """Send what :func:`describe` found. Returns the publication, for :func:`verdicts`.

    ``say`` is called with what it waits for. Raises RedisError or OSError.
    """
    publication = str(uuid4())
    # Of all publications of a party the newest counts, so that nobody can put an old one in its place
    header = {"publication": publication, "told_at": time.time()}
    for tables in _in_reports(found):
        content = header | {"datasets": tables}
        when_it_takes_writes(partial(stream.report, DATASETS, content), patience=PATIENCE, say=say)
    content = header | {"names": list(found)}
    when_it_takes_writes(partial(stream.report, DATASETS, content), patience=PATIENCE, say=say)
    return publication


def _in_reports(found: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Mapping[str, Any]]]:
    tables: dict[str, Mapping[str, Any]] = {}
    room = REPORT_LIMIT - _AROUND
    for name, table in found.items():
        size = len(json.dumps({name: table}))
        if tables and (size > room or len(tables) >= MOST_DATASETS):
            yield tables
            tables, room = {}, REPORT_LIMIT - _AROUND
        tables[name] = table
        room -= size
    if tables:
        yield tables


def verdicts(connection: Redis, party: str, publication: str, names: set[str], seconds: float) -> dict[str, Any]:
    """Return a coordinator's answers within so many seconds, by table: ``verdict`` and ``problem``. Raises RedisError
    or OSError.
    """
    answered: dict[str, Any] = {}
    until = time.monotonic() + seconds
    while names - set(answered) and time.monotonic() < until:
        answer: Any = connection.blpop([answers_to(party, publication)], timeout=1)
        if answer:
            answered |= json.loads(answer[1])
    return {name: verdict for name, verdict in answered.items() if name in names}
