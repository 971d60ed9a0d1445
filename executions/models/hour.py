"""What ended in each hour: what the charts of the overview are drawn of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from controlplane.models import PartySet
from executions.states import ACTIVE, Status

#: How long hours are kept: the longest time that is drawn, and a day.
KEPT = timedelta(days=31)


class Hour(models.Model):
    """So many executions that ended with one status within an hour, and the sums of their times.

    Rows are added in the transaction of the end, one of the parties that take part and one of all (``party_set`` is
    null then), and summed up later, as :class:`executions.models.total.Total` says. So a chart reads a row for each
    hour, whatever the number of executions, and what is removed later stays drawn.
    """

    hour = models.DateTimeField(help_text=_("Beginning of the hour."))
    party_set = models.ForeignKey(PartySet, on_delete=models.CASCADE, null=True, related_name="+", db_index=False)
    status = models.CharField(max_length=20)
    number = models.PositiveIntegerField()
    waited = models.FloatField(default=0, help_text=_("Sum of the seconds from submission to the first party's start."))
    ran = models.FloatField(default=0, help_text=_("Sum of the seconds from the first party's start to the end."))

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["party_set", "hour"], name="hours_of_parties")]

    def __str__(self) -> str:
        return f"{self.number} {self.status} in the hour from {self.hour:%Y-%m-%d %H:%M}"

    @classmethod
    def add(cls, execution: Any, to: Any, at: datetime, fields: Mapping[str, Any]) -> None:
        """Count an end. Called in its transaction, with the execution as it was before and the fields that are set."""
        began = fields.get("started_at", execution.started_at)
        if not isinstance(began, datetime) or (execution.status not in ACTIVE and to != Status.SUCCESS):
            began = None  # an expression, or the start of an earlier attempt
        waited = ((began or at) - execution.created_at).total_seconds()
        ran = (at - began).total_seconds() if began else 0.0
        Hour.objects.bulk_create(
            Hour(
                hour=at.replace(minute=0, second=0, microsecond=0),
                party_set_id=parties,
                status=to,
                number=1,
                waited=max(waited, 0.0),
                ran=max(ran, 0.0),
            )
            for parties in {execution.party_set_id, None}
        )

    @classmethod
    def forget(cls) -> None:
        """Remove what is no longer drawn."""
        cls.objects.filter(hour__lt=timezone.now() - KEPT).delete()
