"""On a party host: tell the control plane what this party's datasets look like, so that nobody types columns."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from controlplane.environment import environment
from controlplane.management.commands.rqworker import connect_to_redis
from workers import datasets
from workers.errors import ConfigError
from workers.events import report
from workers.party import PartyHost


class Command(BaseCommand):
    help = (
        "Publish names, columns and types of the datasets in this host's party.toml (PARTY_TOML), and row counts if "
        'its policy says publish = "counts". No rows leave the host.'
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            host = PartyHost.load(environment.party_toml)
            found = datasets.describe(host)
            report(connect_to_redis(), host.name, datasets.REPORT, {"datasets": found})
        except ConfigError as error:
            raise CommandError(str(error)) from None
        except (RedisError, OSError) as error:
            raise CommandError(
                f"Redis is not reachable ({type(error).__name__}); check REDIS_URL and that the server runs."
            ) from None
        table = Table(box=None, title=f"published by {host.name}", title_justify="left")
        for heading in ("dataset", "columns", "rows"):
            table.add_column(heading)
        for name, told in found.items():
            columns = ", ".join(f"{c} {t}" for c, t in told.get("columns", {}).items())
            table.add_row(name, columns or told["error"], f"{told['rows']:,}" if "rows" in told else "not told")
        console = Console(width=120)
        with console.capture() as shown:
            console.print(table)
        self.stdout.write(shown.get())
        wrong = [name for name, told in found.items() if "error" in told]
        if wrong:
            raise CommandError(f"{', '.join(wrong)} cannot be read; the control plane was told so.")
