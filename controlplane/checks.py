"""What `manage.py check --deploy` says of the connections to Redis and PostgreSQL, and `migrate` of a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.core.checks import CheckMessage, Error, Warning
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from controlplane.environment import environment

_HERE = ("localhost", "127.0.0.1", "::1", None)


def check_connections(app_configs: Any = None, **options: Any) -> list[CheckMessage]:
    """Return a warning for each connection to another host that does not have to prove who it is."""
    found: list[CheckMessage] = []
    redis, database = urlsplit(environment.redis_url), urlsplit(environment.database_url)
    verifies = redis.scheme == "rediss" and parse_qs(redis.query).get("ssl_cert_reqs", ["required"]) == ["required"]
    if redis.scheme != "unix" and redis.hostname not in _HERE and not verifies:
        found.append(
            Warning(
                "The connection to Redis is in cleartext, or to any server that answers.",
                hint="Let REDIS_URL begin with rediss://, without ssl_cert_reqs.",
                id="controlplane.W001",
            )
        )
    if database.hostname not in _HERE and parse_qs(database.query).get("sslmode") != ["verify-full"]:
        found.append(
            Warning(
                "The connection to PostgreSQL may be in cleartext, or to any server that answers.",
                hint="Add sslmode=verify-full and sslrootcert=/path/to/ca.pem to DATABASE_URL.",
                id="controlplane.W002",
            )
        )
    return found


def check_migrations(
    app_configs: Any = None, databases: Sequence[str] | None = None, **options: Any
) -> list[CheckMessage]:
    """Return an error for each database that stands between migrations of which there is only the sum by now."""
    found: list[CheckMessage] = []
    sums = MigrationLoader(None).replacements
    for alias in databases or ():
        applied = MigrationRecorder(connections[alias]).applied_migrations().keys()
        for (app, name), migration in sums.items():
            done = applied & {*migration.replaces}
            if done and done != {*migration.replaces}:
                found.append(
                    Error(
                        f"The database has {len(done)} of the {len(migration.replaces)} migrations of {app} that are "
                        f"one by now, {name}.",
                        hint="Migrate it with the version before this one first; CHANGELOG.md says which that is.",
                        id="controlplane.E001",
                    )
                )
    return found
