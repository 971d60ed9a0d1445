"""Makes certificates for trying out TLS. For trials only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from executions.trial.certificates import TrialCA
from workers.contract.documents import PARTY_NAME


class Command(BaseCommand):
    help = (
        "FOR TRIALS ONLY: make a CA, and a private key and certificate for each party, in one directory. "
        "In production each party makes its key on its own host and nobody else ever has it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("directory", type=Path, help="A new directory.")
        parser.add_argument("parties", nargs="+", metavar="party")

    def handle(self, *args: Any, directory: Path, parties: list[str], **options: Any) -> None:
        for party in parties:
            if not re.fullmatch(PARTY_NAME, party):
                raise CommandError(f"{party!r} is not a party's name; such as alice")
        if directory.exists():
            # Certificates of an older CA would no longer be valid with the new one
            raise CommandError(f"{directory} exists; name a new directory")
        try:
            authority = TrialCA(directory)
            made = {party: authority.certify(party) for party in parties}
        except OSError as error:
            raise CommandError(f"{directory} cannot be written: {error.strerror}") from None
        for party, files in made.items():
            self.stdout.write(f"\n# party.toml of {party}\n[tls]")
            for name in ("certificate", "private_key", "ca"):
                self.stdout.write(f'{name} = "{getattr(files, name).resolve()}"')
        self.stderr.write(
            self.style.WARNING(
                "\nFOR TRIALS ONLY: whoever can read this directory can pass for every party. Valid for 30 days."
            )
        )
