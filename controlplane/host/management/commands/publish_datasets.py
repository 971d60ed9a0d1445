"""Tells the control plane, from a party host, the columns of this party's datasets, so that nobody has to type them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from controlplane.environment import environment
from controlplane.management.redis import connect_to_redis
from workers.contract.connection import trouble
from workers.contract.errors import ConfigError
from workers.contract.reports import REFUSED
from workers.host import publication
from workers.host.party import PartyHost
from workers.host.stream import Stream


class Command(BaseCommand):
    help = (
        "Publish names, columns and types of the datasets in this host's party.toml (PARTY_TOML), and row counts if "
        'its policy says publish = "counts". No rows leave the host. Says for each what the control plane made of it.'
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--wait",
            type=float,
            default=10.0,
            metavar="SECONDS",
            help="How long to wait for the control plane's answers; 0 to wait for none, and know of none. Default: 10.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            host = PartyHost.load(environment.party_toml)
            found = publication.describe(host)
            connection = connect_to_redis()
            published = publication.publish(Stream(connection, host.name, host.signer), found, self.stderr.write)
            answers = publication.verdicts(connection, host.name, published, set(found), options["wait"])
        except ConfigError as error:
            raise CommandError(str(error)) from None
        except (RedisError, OSError) as error:
            raise CommandError(f"{trouble(error)}.") from None
        self.stdout.write(_table(host.name, found, answers))
        wrong = _wrong(found, answers)
        unanswered = [name for name in found if name not in answers] if options["wait"] else []
        if unanswered:
            wrong.append(
                f"no coordinator answered for {', '.join(unanswered)} within {options['wait']:g} s. What was published "
                f"is registered when one reads it: is `manage.py coordinate` running, is {host.name} a party there?"
            )
        if wrong:
            raise CommandError("\n".join(wrong))


def _wrong(found: Mapping[str, Mapping[str, Any]], answers: Mapping[str, Any]) -> list[str]:
    """Return a line of text for each table that was not registered."""
    lines = []
    for name, told in found.items():
        if "error" in told:
            lines.append(f"{name} was not registered: {told['error']}")
        elif answers.get(name, {}).get("verdict") == REFUSED:
            lines.append(f"{name} was not registered: {answers[name].get('problem')}")
    return lines


def _table(party: str, found: Mapping[str, Mapping[str, Any]], answers: Mapping[str, Any]) -> str:
    table = Table(box=None, title=f"published by {party}", title_justify="left")
    for heading in ("dataset", "columns", "rows", "control plane"):
        table.add_column(heading)
    for name, told in found.items():
        columns = ", ".join(f"{c} {t}" for c, t in told.get("columns", {}).items())
        answer = answers.get(name, {})
        parts = ("verdict",) if "error" in told else ("verdict", "problem")  # the table already shows what is wrong
        words = ": ".join(str(answer[part]) for part in parts if answer.get(part))
        rows = f"{told['rows']:,}" if "rows" in told else "not told"
        table.add_row(name, _few(columns or told["error"]), rows, _few(words or "no answer"))
    console = Console(width=160)
    with console.capture() as shown:
        console.print(table, markup=False)
    return shown.get()


def _few(text: str, length: int = 600) -> str:
    return text if len(text) <= length else f"{text[:length]} ..."
