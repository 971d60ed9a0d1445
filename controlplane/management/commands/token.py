from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from knox.models import AuthToken

from workers.contract.problems import closest


class Command(BaseCommand):
    help = "Print a new API token of a user. It is shown this once and stored only as a hash."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--days", type=int, default=365, help="Days until it expires (default: 365).")

    def handle(self, *args: Any, username: str, days: int, **options: Any) -> None:
        users = get_user_model().objects
        user = users.filter(username=username).first()
        if user is None:
            names = users.order_by("username").values_list("username", flat=True)[:500]
            raise CommandError(f"There is no user {username!r}; {closest(username, names)}")
        if not user.is_active:
            raise CommandError(f"The user {username!r} is not active: a token would not be accepted.")
        if not 1 <= days <= 36500:
            raise CommandError("--days should be from 1 to 36500.")
        _, token = AuthToken.objects.create(user, expiry=timedelta(days=days))
        self.stdout.write(token)
