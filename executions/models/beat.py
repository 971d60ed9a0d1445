"""Signs of life of the coordinators."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Beat(models.Model):
    """When a coordinator began its latest step, by the database's clock: no two hosts' clocks are compared.

    In the database and not in Redis: while Redis is away, a coordinator that lives is not to be taken for dead.
    """

    #: Seconds after which a coordinator that began no further step counts as away.
    AWAY_AFTER = 30.0
    #: A coordinator that was away for so long is forgotten.
    FORGOTTEN_AFTER = timedelta(days=1)

    coordinator = models.CharField(max_length=200, unique=True, help_text=_("Host, process and a number."))
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.coordinator} at {self.at}"

    @classmethod
    def note(cls, coordinator: str) -> None:
        """Note that this coordinator lives; the first time, forget those that were away for long."""
        if not cls.objects.filter(coordinator=coordinator).update(at=Now()):
            cls.objects.filter(at__lt=timezone.now() - cls.FORGOTTEN_AFTER).delete()
            cls.objects.create(coordinator=coordinator, at=Now())

    @classmethod
    def ages(cls) -> list[float]:
        """Return for how many seconds each known coordinator has begun no step, the least first. Takes one query."""
        rows: list[tuple[datetime, datetime]] = list(cls.objects.values_list("at", Now()))
        return sorted(max(0.0, (now - at).total_seconds()) for at, now in rows)
