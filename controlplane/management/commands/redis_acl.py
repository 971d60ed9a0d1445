"""Prints what a party's user may do in Redis."""

from __future__ import annotations

import re
import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from workers.contract.acl import rules
from workers.contract.documents import PARTY_NAME


class Command(BaseCommand):
    help = (
        "Print the user of a party's workers for Redis 7 or Valkey, with a new password: its queue, its jobs and its "
        "stream, and nothing of any other party. Neither Redis nor the database is asked or changed."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("party", help="The party's name.")
        parser.add_argument("--user", default="", help="Name of the user in Redis; the party's if left out.")
        parser.add_argument(
            "--file", action="store_true", help="As a line of an ACL file (aclfile), not as a command of redis-cli."
        )

    def handle(self, *args: Any, party: str, user: str, file: bool, **options: Any) -> None:
        if not re.fullmatch(PARTY_NAME, party):
            raise CommandError(f"{party!r} is no party's name: use a-z, 0-9, _ and -, beginning with a letter.")
        user = user or party
        if not re.fullmatch(r"[\w.@-]{1,100}", user):
            raise CommandError(f"{user!r} is no user's name: use letters, digits and . _ @ -")
        password = secrets.token_urlsafe(24)
        found = rules(party, password)
        if file:
            self.stdout.write(f"user {user} {found}")
        else:
            quoted = " ".join(f"'{part}'" for part in re.findall(r"\([^)]*\)|\S+", found))
            self.stdout.write(f"ACL SETUSER {user} {quoted}")
        self.stderr.write(
            f"For {party}'s host alone: REDIS_URL=rediss://{user}:{password}@<host>:6379/0 "
            "(only its digest stands in the rules; run this again for a new one)"
        )
