"""Prints, on the control plane, the public key with which parties recognise its orders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from executions.coordinator.key import NoKey, own_key
from workers.contract.signing import Signer


class Command(BaseCommand):
    help = (
        "Print the public key of this control plane, for the table [control_plane] in each party's party.toml; makes "
        "the key where there is none. Run it as the user who runs the coordinator. To replace the key: --make a new "
        "one, have every party add its public key, then set CONTROLPLANE_SIGNING_KEY to the new file and restart the "
        "coordinators."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--make", metavar="FILE", help="Make a new key in this file, and print its public key.")

    def handle(self, *args: Any, make: str | None, **options: Any) -> None:
        try:
            key = Signer.create(Path(make)) if make else own_key()
        except FileExistsError:
            raise CommandError(f"{make} exists; name a new file.") from None
        except OSError as error:
            raise CommandError(f"{make} cannot be written: {error.strerror}.") from None
        except NoKey as error:
            raise CommandError(f"{error}.") from None
        self.stdout.write(key.public_key)
