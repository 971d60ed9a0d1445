"""Parties to which nothing new is sent for now."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from controlplane.models.party import Party


class Pause(models.Model):
    """That a party is paused: what runs there goes on, and nothing new is sent to it.

    Apart from the party itself: it is no part of what is registered, and whoever saves an older form of the party must
    not end it.
    """

    party = models.OneToOneField(Party, on_delete=models.CASCADE, related_name="pause")
    at = models.DateTimeField(default=timezone.now)
    why = models.CharField(max_length=200, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"pause of {self.party}"
