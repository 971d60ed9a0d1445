"""The lines of parties' logs that the control plane was sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from django.db import models
from django.utils import timezone as now
from django.utils.translation import gettext_lazy as _

from executions.models.execution import Execution
from workers.contract.logs import name_of


class LogChunk(models.Model):
    """Some lines of one party's log of one attempt, as they came in one message (``workers.contract.logs``)."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="logs")
    party = models.CharField(max_length=32)
    attempt = models.PositiveIntegerField()
    sequence = models.PositiveIntegerField(help_text=_("Counts up within a party's attempt."))
    lines = models.JSONField(help_text=_("Lists of seconds since 1970, level, place in the code, and text."))
    count = models.PositiveIntegerField(help_text=_("Number of lines."))
    size = models.PositiveIntegerField(help_text=_("Size in bytes of JSON, as it came."))
    dropped = models.PositiveIntegerField(default=0, help_text=_("Lines before these that the party left out."))
    received_at = models.DateTimeField(default=now.now)

    class Meta:
        ordering = ["execution", "attempt", "party", "sequence"]
        constraints = [
            models.UniqueConstraint(
                fields=["execution", "attempt", "party", "sequence"], name="lines_of_a_log_are_kept_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.count} lines of {self.party}, attempt {self.attempt}"

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the lines, and before them how many are missing."""
        found = [line_of(*line) for line in self.lines]
        if self.dropped:
            at = found[0]["at"] if found else self.received_at
            text = f"({self.dropped:,} lines were left out here; the party's host has them)"
            found.insert(0, {"at": at, "level": "warning", "source": "", "text": text})
        for line in found:
            yield {"party": self.party, "attempt": self.attempt} | line


def line_of(at: float, level: int, source: str, text: str) -> dict[str, Any]:
    """Return a line in words."""
    return {
        "at": datetime.fromtimestamp(at, timezone.utc),
        "level": name_of(level),
        "source": source,
        "text": text,
    }


def in_order(chunks: Iterable[LogChunk]) -> list[dict[str, Any]]:
    """Return the lines of all parties by attempt and time; those of one party stay in their order."""
    return sorted((line for chunk in chunks for line in chunk.rows()), key=lambda line: (line["attempt"], line["at"]))
