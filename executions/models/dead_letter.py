"""What parties sent and could not be applied."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class DeadLetter(models.Model):
    """An entry of a party's stream that was set aside, with the reason. The newest ones of each party are kept."""

    #: Not a foreign key: who sent it may be deleted.
    party = models.CharField(max_length=32)
    kind = models.CharField(max_length=16, help_text=_("What it was meant to be."))
    reason = models.CharField(max_length=500, help_text=_("Why it could not be applied."))
    content = models.TextField(
        help_text=_("What was sent, or its beginning. Bytes that are no text are shown as \\x...")
    )
    size = models.PositiveBigIntegerField(help_text=_("Bytes that were sent."))
    at = models.DateTimeField(default=timezone.now, help_text=_("Time at which it was set aside."))

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [
            models.Index(fields=["-at", "-id"], name="dead_letters_by_time"),
            models.Index(fields=["party", "-id"], name="dead_letters_by_party"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} from {self.party}: {self.reason}"

    @classmethod
    def involving(
        cls, rows: models.QuerySet[Any], parties: Collection[str], wholly: bool = False
    ) -> models.QuerySet[Any]:
        """Return those of the rows that one of the parties has sent."""
        return rows.filter(party__in=parties)
