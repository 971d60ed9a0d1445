"""What executions and pipeline runs have in common: who submitted them, their states, and each change of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from executions.states import ENDED


class Submission(models.Model):
    """What was submitted and ends; ``executions.states.transition`` alone changes its ``status``."""

    #: The kind of its statuses.
    STATUSES: ClassVar[type[models.TextChoices]]
    #: Fields that say nothing any more once it has ended.
    cleared_at_end: ClassVar[Mapping[str, Any]] = {}

    submitted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    status: Any

    class Meta:
        abstract = True

    def read_as(self) -> dict[str, Any]:
        """Return what, beside its status, has to be as it was read for a change of state to be one of it."""
        return {}

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def seconds(self) -> float | None:
        """From submission to the end."""
        return (self.ended_at - self.created_at).total_seconds() if self.ended_at else None


class Change(models.Model):
    """One change of state: when, from, to, why, by whom."""

    from_status = models.CharField(max_length=20, blank=True)
    to_status = models.CharField(max_length=20)
    at = models.DateTimeField(default=timezone.now)
    why = models.CharField(max_length=1000, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    #: The kind of its statuses.
    STATUSES: ClassVar[type[models.TextChoices]]

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.from_status} to {self.to_status}"

    @property
    def from_label(self) -> str:
        """The status before, in the word that pages use for it; empty for the first change."""
        return str(self.STATUSES(self.from_status).label) if self.from_status else ""

    @property
    def to_label(self) -> str:
        return str(self.STATUSES(self.to_status).label)
