"""Prepares the database of a trial: migrates it, and adds the demo's parties, tasks and an administrator. For trials
only."""

from __future__ import annotations

import json
import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from controlplane.environment import ROOT
from controlplane.models import Party, TokenTerms
from controlplane.profiles.apply import apply


class Command(BaseCommand):
    help = "Prepare an empty database for `make demo`; prints the administrator's password and API token as JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("parties", help="What differs from trial to trial of each party, by its name, as JSON.")

    def handle(self, *args: Any, parties: str, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        apply((ROOT / "config" / "dev.yaml").read_bytes(), "prepared for a trial")
        for name, fields in json.loads(parties).items():
            Party.objects.update_or_create(name=name, defaults={"address": "127.0.0.1"} | fields)
        password = secrets.token_urlsafe(12)
        user = get_user_model().objects.create_superuser("admin", password=password)
        _, token = TokenTerms.make_token(user, "the trial")
        self.stdout.write(json.dumps({"password": password, "token": token}))
