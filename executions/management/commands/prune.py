"""Removes what is old enough by the settings: what a coordinator does by itself once an hour."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from redis.exceptions import RedisError

from controlplane.environment import environment
from executions.coordinator.export import Export
from executions.coordinator.leftovers import Leftovers
from executions.coordinator.pruning import Pruning, to_be_removed, told
from executions.redis import redis_connection
from workers.contract.connection import trouble

#: Seconds between two lines about progress.
PROGRESS = 5.0
#: Seconds for which rows are removed at a stretch, and for which the others have the database to themselves then.
AT_A_STRETCH, PAUSE = 0.1, 0.1


class Command(BaseCommand):
    help = (
        "Remove ended executions, pipeline runs, schedule ticks, history, sessions, API tokens and dead letters that "
        "are older than the settings CONTROLPLANE_KEEP_..._DAYS say. Never what runs, or what a pipeline run or a "
        "dataset refers to."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Remove nothing, and print how much would go.")
        parser.add_argument(
            "--export",
            type=Path,
            metavar="FILE",
            help="Write executions and pipeline runs to this new file as JSON lines before they are removed; "
            "compressed if its name ends in .gz.",
        )

    def handle(self, *args: Any, dry_run: bool, export: Path | None, **options: Any) -> None:
        if dry_run:
            self.stdout.write(f"would be removed: {told(to_be_removed()) or 'nothing'}")
            return
        if export and environment.prune_hourly:
            raise CommandError(
                "The coordinator removes the same once an hour, and exports nothing. Set CONTROLPLANE_PRUNE_HOURLY="
                "false for all processes and start the coordinators again, then export."
            )
        self._prune(export)
        try:
            leftovers = Leftovers(redis_connection())
            while leftovers.step():
                pass
        except (RedisError, OSError) as error:
            raise CommandError(f"What is left over in Redis was not removed: {trouble(error)}.") from None
        if leftovers.consumers or leftovers.keys:
            self.stdout.write(
                f"removed from Redis: {leftovers.consumers:,} consumers of dead coordinators, {leftovers.keys:,} keys "
                "of deleted parties"
            )

    def _prune(self, path: Path | None) -> None:
        """Remove what is old. Raises CommandError if it could not be written to the file before."""
        export = None
        try:
            with ExitStack() as opened:
                export = opened.enter_context(Export(path)) if path else None
                pruning = Pruning(export.write if export else None)
                self._to_the_end(pruning)
        except FileExistsError:
            raise CommandError(f"{path} exists; name a new file.") from None
        except OSError as error:
            done = f" The {export.lines:,} lines before are in it and were removed." if export and export.lines else ""
            raise CommandError(
                f"{path} cannot be written: {error.strerror}. Nothing was removed that is not in it.{done}"
            ) from None
        self.stdout.write(f"removed: {told(pruning.removed) or 'nothing'}")
        if export and export.lines:
            self.stdout.write(f"{path} has {export.lines:,} lines")

    def _to_the_end(self, pruning: Pruning) -> None:
        tell_at = time.monotonic() + PROGRESS
        while pruning.step(AT_A_STRETCH):
            if time.monotonic() >= tell_at:
                reached = f"; {pruning.kind} up to {pruning.reached:%Y-%m-%d}" if pruning.reached else ""
                self.stdout.write(f"removed so far: {told(pruning.removed) or 'nothing'}{reached}")
                self.stdout.flush()
                tell_at = time.monotonic() + PROGRESS
            time.sleep(PAUSE)
