"""The common part of executions and pipeline runs: who submitted them, their states, and each change of state."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.db import models
from django.utils import timezone

from controlplane.models import PartySet
from executions.states import COLOURS, ENDED

#: The beginning of an id, of eight digits or more.
_BEGINNING = re.compile(r"[0-9a-f]{8,31}")


def ids_beginning(term: str) -> tuple[UUID, UUID] | None:
    """Return the first and the last id that begin with a text of eight digits or more; None if no id can."""
    digits = term.lower().replace("-", "")
    if not _BEGINNING.fullmatch(digits):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


class Submission(models.Model):
    """A submission. Only ``executions.states.transition`` changes its ``status``."""

    #: The kind of its statuses.
    STATUSES: ClassVar[type[models.TextChoices]]
    #: Values of fields that have no meaning once it has ended.
    cleared_at_end: ClassVar[Mapping[str, Any]] = {}

    submitted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,  # an index of several fields begins with it
    )
    created_at = models.DateTimeField(default=timezone.now)
    party_set = models.ForeignKey(
        PartySet,
        on_delete=models.PROTECT,
        null=True,
        editable=False,
        related_name="+",
        db_index=False,  # an index of several fields begins with it
    )
    ended_at = models.DateTimeField(null=True, blank=True)

    status: Any

    class Meta:
        abstract = True

    @classmethod
    def involving(
        cls, rows: models.QuerySet[Any], parties: Collection[str], wholly: bool = False
    ) -> models.QuerySet[Any]:
        """Return those of the rows that involve at least one of the parties; ``wholly``: and no other parties."""
        return rows.filter(party_set__in=PartySet.keys(parties, wholly=wholly))

    def read_as(self) -> dict[str, Any]:
        """Return the fields that, besides the status, have to be unchanged in the database for a change of state to
        apply."""
        return {}

    def count(self, to: Any, at: datetime, fields: Mapping[str, Any]) -> None:
        """Add a change of state to the totals, in its transaction: to which status, when, and what is set with it."""

    @property
    def short(self) -> str:
        """Return the beginning of its id, as pages, commands and logs show it."""
        return str(self.pk)[:8]

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def seconds(self) -> float | None:
        """Return the seconds from submission to the end; None before the end."""
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
        """Return the label of the status before; empty for the first change."""
        return str(self.STATUSES(self.from_status).label) if self.from_status else ""

    @property
    def to_label(self) -> str:
        return str(self.STATUSES(self.to_status).label)

    @property
    def from_colour(self) -> str:
        return COLOURS.get(self.from_status, "default")

    @property
    def to_colour(self) -> str:
        return COLOURS.get(self.to_status, "default")
