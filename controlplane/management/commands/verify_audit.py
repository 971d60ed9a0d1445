"""Finds changes and gaps in the audit trail."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.audit.chain import holds, verify


class Command(BaseCommand):
    help = (
        "Check that no audit entry was changed or removed, and print the newest hash. Keep the hash somewhere else: "
        "with --known, it shows later that all entries up to it are as they were."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--known", metavar="HASH", help="A hash that this command printed before.")

    def handle(self, *args: Any, known: str | None, **options: Any) -> None:
        found = verify()
        problems = list(found.problems)
        if known and not holds(known):
            problems.append(f"no entry has the hash {known[:64]}: entries were removed from the end, or changed")
        self.stdout.write(f"{found.sealed:,} sealed entries; the newest hash is {found.newest}")
        if problems:
            raise CommandError("\n".join(problems))
