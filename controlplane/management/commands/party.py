"""Commands for a party host. ``prune`` removes what is left over on it."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from redis.exceptions import RedisError
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from controlplane.environment import environment
from controlplane.management import approvals
from controlplane.management.commands.rqworker import connect_to_redis
from workers.contract.connection import trouble
from workers.contract.errors import ConfigError
from workers.host.party import PartyHost
from workers.host.stream import Stream
from workers.runtime.leftovers import Leftover, Leftovers, ask

DAY = 86_400.0


class Command(BaseCommand):
    help = "Look after this party host: `party prune` removes what is left over on it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", metavar="prune", required=True)
        prune = commands.add_parser(
            "prune",
            help="Remove journals, temporary files, and outputs that nothing on the control plane names any more.",
        )
        prune.add_argument(
            "--days", type=float, default=30.0, help="Only what was not touched for so many days. Default: 30."
        )
        prune.add_argument("--dry-run", action="store_true", help="Remove nothing, and list what would go.")
        prune.add_argument("--yes", action="store_true", help="Do not ask.")
        prune.add_argument(
            "--wait",
            type=float,
            default=10.0,
            metavar="SECONDS",
            help="How long to wait for the control plane's answer; 0 to leave all outputs. Default: 10.",
        )

        approvals.add_commands(commands)

    def handle(self, *args: Any, command: str, **options: Any) -> None:
        if command in approvals.COMMANDS:
            approvals.run(self._host(), command, options, self.stdout)
            return
        self._prune(options["days"], options["dry_run"], options["yes"], options["wait"])

    @staticmethod
    def _host() -> PartyHost:
        try:
            return PartyHost.load(environment.party_toml)
        except ConfigError as error:
            raise CommandError(str(error)) from None

    def _prune(self, days: float, dry_run: bool, yes: bool, wait: float) -> None:
        if days <= 0:
            raise CommandError("--days should be more than 0.")
        host = self._host()
        if host.output_dir.is_dir() and host.output_dir.stat().st_uid != os.geteuid():
            # Locks that another user made could not be taken by the worker any more
            raise CommandError("Run this as the user who runs the worker: output_dir of party.toml is another user's.")
        leftovers = Leftovers(host, days * DAY)
        try:
            found, outputs = list(leftovers.files()), leftovers.outputs()
        except OSError as error:  # a worker may have removed something in this moment
            raise CommandError(f"{error.filename} cannot be looked at: {error.strerror}. Try again.") from None
        unnamed, why = self._unnamed(host, outputs, wait)
        found += unnamed
        if found:
            self.stdout.write(_table(host.name, found))
            if not dry_run:
                self._remove(found, yes)
        else:
            self.stdout.write("nothing is left over")
        if why:
            raise CommandError(why)

    def _unnamed(self, host: PartyHost, outputs: dict[str, Leftover], wait: float) -> tuple[list[Leftover], str]:
        """Return the outputs that nothing names, and why that is not known of some."""
        if not outputs or not wait:
            return [], ""
        try:
            named = ask(Stream(connect_to_redis(), host.name, host.signer), outputs, wait)
        except ConfigError as error:
            return [], str(error)
        except (RedisError, OSError) as error:
            return [], f"{trouble(error)}. All outputs were left."
        unknown = len(outputs) - len(named)
        why = f"no coordinator answered within {wait:g} s for {unknown:,} outputs, which were left" if unknown else ""
        return [output for name, output in outputs.items() if named.get(name) is False], why

    def _remove(self, found: list[Leftover], yes: bool) -> None:
        size = decimal(sum(one.size for one in found))
        if not yes and not approvals.agreed(f"Remove these {len(found):,} ({size})? [y/N] "):
            raise CommandError("Nothing was removed.")
        removed, wrong = 0, []
        for one in found:
            try:
                removed += one.remove()
            except OSError as error:
                wrong.append(f"{one.path} was not removed: {error.strerror}")
        self.stdout.write(f"removed {removed:,} of {len(found):,}")
        if wrong:
            raise CommandError("\n".join(wrong))


def _table(party: str, found: list[Leftover]) -> str:
    table = Table(box=None, title=f"left over at {party}", title_justify="left")
    for heading in ("what", "path", "size", "last changed"):
        table.add_column(heading, overflow="fold")
    for one in found:
        changed = datetime.fromtimestamp(one.at).astimezone()
        table.add_row(one.what, str(one.path), decimal(one.size), f"{changed:%Y-%m-%d %H:%M}")
    console = Console(width=160)
    with console.capture() as shown:
        console.print(table, markup=False)
    return shown.get()
