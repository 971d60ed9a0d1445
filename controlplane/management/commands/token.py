from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.models import Party, TokenTerms
from controlplane.models.token import MOST_DAYS, USUAL_DAYS, Scope
from workers.contract.problems import closest


class Command(BaseCommand):
    help = "Print a new API token of a user. It is shown this once and stored only as a hash."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", default="made by manage.py token", help="What uses the token.")
        parser.add_argument(
            "--scope",
            action="append",
            choices=Scope.values,
            help="What it may do: read, submit or manage; repeat it for several (default: all that the user may).",
        )
        parser.add_argument(
            "--party", action="append", help="Party that it is limited to; repeat it for several (default: the user's)."
        )
        parser.add_argument(
            "--days",
            type=int,
            default=USUAL_DAYS,
            help=f"Days until it expires, up to {MOST_DAYS} (default: {USUAL_DAYS}).",
        )

    def handle(self, *args: Any, username: str, days: int, **options: Any) -> None:
        users = get_user_model().objects
        user = users.filter(username=username).first()
        if user is None:
            names = users.order_by("username").values_list("username", flat=True)[:500]
            raise CommandError(f"There is no user {username!r}; {closest(username, names)}")
        if not user.is_active:
            raise CommandError(f"The user {username!r} is not active: a token would not be accepted.")
        if not 1 <= days <= MOST_DAYS:
            raise CommandError(f"--days should be from 1 to {MOST_DAYS}.")
        if not 1 <= len(options["name"]) <= 100:
            raise CommandError("--name should have 1 to 100 characters.")
        wanted = options["party"]
        known = list(Party.objects.values_list("name", flat=True))
        for party in wanted or ():
            if party not in known:
                raise CommandError(f"--party: there is no party {party!r}; {closest(party, known)}")
        parties = frozenset(wanted) if wanted else None
        _, token = TokenTerms.make_token(
            user, options["name"], options["scope"] or Scope.values, parties, timedelta(days=days)
        )
        self.stdout.write(token)
