"""A zip file with everything about one execution, for whoever looks into it."""

from __future__ import annotations

import io
import json
import platform
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from django.db import connection
from django.utils import timezone
from redis.exceptions import RedisError

from controlplane.models import Party, Site
from executions.coordinator.export import Encoder, record_of
from executions.diagnosis.reading import first_reading
from executions.models import Execution, LogChunk
from executions.redis import redis_connection
from workers.contract.logs import as_text

#: Packages whose versions may matter.
PACKAGES = ("django", "djangorestframework", "rq", "redis", "psycopg", "pydantic", "cryptography", "secretflow", "spu")


def name_of(execution: Execution) -> str:
    """Return the name of the file."""
    return f"diagnosis-{execution.short}.zip"


def diagnose(execution: Execution) -> bytes:
    """Return the zip file. Documents and events are as the API shows them: secrets are masked, and no path, key or
    address of Redis or the database is among it."""
    record = record_of(execution)
    events = record.pop("events")
    files = {
        "README.txt": _README.format(name=execution, at=timezone.now(), short=execution.short),
        "reading.txt": first_reading(execution),
        "execution.json": _json(record),
        "events.jsonl": "".join(json.dumps(event, cls=Encoder) + "\n" for event in events),
        "environment.json": _json(_environment(execution)),
    } | _logs(execution)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


_README = """Diagnosis of execution {name}, made {at:%Y-%m-%d %H:%M:%S %Z}.

reading.txt       a first reading: what happened, what is known of it, where the time went
execution.json    the execution with its documents (secrets masked), attempts, changes of state, checks and result
events.jsonl      what the parties reported, a line each
environment.json  versions and settings of the control plane, and what the parties' hosts said of themselves

logs/             what the parties sent of their logs, a file for each party and attempt

All of a party's log is on its own host: `manage.py party logs {short}` there shows it.
"""


def _logs(execution: Execution) -> dict[str, str]:
    found: dict[str, str] = {}
    for chunk in LogChunk.objects.filter(execution=execution).order_by("attempt", "party", "sequence").iterator():
        name = f"logs/{chunk.party}-{chunk.attempt}.log"
        found[name] = found.get(name, "") + as_text(chunk.rows())
    return found


def _json(value: Any) -> str:
    return json.dumps(value, cls=Encoder, indent=2, ensure_ascii=False) + "\n"


def _environment(execution: Execution) -> dict[str, Any]:
    site = Site.current()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(_versions()),
        "database": f"{connection.vendor} {_database_version()}",
        "redis": _redis_version(),
        "environment": site.environment,
        "security": site.security,
        "parties": {
            party.name: {"ports": f"{party.port_first}-{party.port_last}"}
            for party in Party.objects.filter(name__in=execution.parties)
        },
    }


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed here"


def _database_version() -> str:
    if connection.vendor == "sqlite":
        return ".".join(map(str, connection.Database.sqlite_version_info))  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0])


def _redis_version() -> str:
    try:
        found: Any = redis_connection().info("server")
    except (RedisError, OSError) as error:
        return f"not reachable ({type(error).__name__})"
    return str(found.get("valkey_version") or found.get("redis_version"))
