"""How often somebody tried to sign in with a password."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone

#: Tries are counted for so long from the first one; then they are forgotten.
WINDOW = timedelta(minutes=15)


class SignInTries(models.Model):
    """The tries to sign in of the last minutes that did not succeed, from one address, or as one user from it."""

    key = models.CharField(max_length=300, unique=True)
    number = models.PositiveIntegerField(default=1)
    since = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.number} by {self.key}"

    @classmethod
    def count(cls, key: str, limit: int) -> float:
        """Count a try before it is made. Returns 0, or the seconds to wait if there were as many as the limit.

        Each statement is one change of one row: of tries at the same moment no more than the limit get through.
        """
        now = timezone.now()
        rows = cls.objects.filter(key=key)
        # what lies ahead of now was counted before the clock was put back
        recent = models.Q(since__gt=now - WINDOW, since__lte=now)
        if rows.filter(recent, number__lt=limit).update(number=models.F("number") + 1):
            return 0
        if rows.exclude(recent).update(number=1, since=now):
            return 0
        _forget_old(now)
        _, is_new = cls.objects.get_or_create(key=key, defaults={"since": now})
        if is_new:
            return 0
        since = rows.values_list("since", flat=True).first() or now
        return max((since + WINDOW - now).total_seconds(), 1)

    @classmethod
    def uncount(cls, key: str) -> None:
        """Take back the latest try: it has succeeded."""
        cls.objects.filter(key=key, number__gt=0).update(number=models.F("number") - 1)

    @classmethod
    def forget(cls, key: str) -> None:
        cls.objects.filter(key=key).delete()


def _forget_old(now: datetime) -> None:
    SignInTries.objects.filter(since__lte=now - WINDOW).delete()
