"""Makes, on a party host, the key pair that secrets in documents are sealed with for this party."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from controlplane.environment import environment
from workers.contract.errors import ConfigError
from workers.host.key import PartyKey
from workers.host.party import PartyHost


class Command(BaseCommand):
    help = (
        "Print this party's public key, for its page on the control plane; makes the key pair where there is none. "
        "The private key stays in the file that party.toml names (key, by default party.key beside it)."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            path = PartyHost.load(environment.party_toml).key_path
            key = PartyKey.load(path) if path.exists() else PartyKey.create(path)
        except ConfigError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"The key of party.toml cannot be written: {error.strerror}.") from None
        self.stdout.write(key.public_key)
