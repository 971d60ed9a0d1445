"""Schedules: what is run at set times."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from controlplane.models.pipeline import Pipeline
from controlplane.models.protection import protect
from controlplane.models.task import Task
from controlplane.models.versioned import Versioned
from controlplane.pipelines.cron import Cron, CronInvalid
from controlplane.times import known_zones

if TYPE_CHECKING:
    pass


def check_time_zone(value: str) -> None:
    """Raise ValidationError unless the time zone is known."""
    if value not in known_zones():
        raise ValidationError(gettext("There is no such time zone; name one such as Europe/Berlin, or UTC."))


class Schedule(Versioned):
    """Runs a task or a pipeline at set times. The coordinator does so, on behalf of its owner: whoever changed or
    confirmed it last."""

    #: Fields that decide when it is due: a change of one sets the next time anew.
    TIMING = ("cron", "time_zone", "enabled")

    name = models.CharField(max_length=100, unique=True)
    description = models.CharField(max_length=200, blank=True)
    cron = models.CharField(
        _("cron expression"),
        max_length=100,
        help_text=_(
            "Minute, hour, day of month, month, day of week, such as 30 2 * * MON-FRI: at half past two on weekdays."
        ),
    )
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[check_time_zone],
        help_text=_("Time zone of the cron expression, such as Europe/Berlin."),
    )
    task = models.ForeignKey(
        Task,
        on_delete=protect,
        null=True,
        blank=True,
        related_name="schedules",
        help_text=_("Task that it runs; leave empty for a pipeline."),
    )
    pipeline = models.ForeignKey(
        Pipeline,
        on_delete=protect,
        null=True,
        blank=True,
        related_name="schedules",
        help_text=_("Pipeline that it runs; leave empty for a task."),
    )
    enabled = models.BooleanField(default=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=protect,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        help_text=_(
            "User who changed or confirmed it last; runs are submitted in this user's name while the user may "
            "run things."
        ),
    )
    confirmed_at = models.DateTimeField(
        default=timezone.now,
        editable=False,
        help_text=_("Time at which its owner changed or confirmed it; what others change of it later does not run."),
    )
    next_run_at = models.DateTimeField(null=True, blank=True, editable=False, db_index=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(task__isnull=True) ^ models.Q(pipeline__isnull=True),
                name="a_schedule_has_one_target",
                violation_error_message=_("Choose either a task or a pipeline."),
            )
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def involving(cls, rows: QuerySet[Any], parties: Collection[str], wholly: bool = False) -> QuerySet[Any]:
        tasks = Task.involving(Task.objects.order_by(), parties, wholly).values("pk")
        pipelines = Pipeline.involving(Pipeline.objects.order_by(), parties, wholly).values("pk")
        return rows.filter(Q(task__in=tasks) | Q(pipeline__in=pipelines))

    def involved(self) -> set[str]:
        found = self.task or self.pipeline
        return found.involved() if found else set()

    @property
    def target(self) -> Task | Pipeline:
        found = self.task or self.pipeline
        assert found, "the constraint sees to it"
        return found

    @property
    def in_words(self) -> str:
        """Return the times in words; empty if its time zone is no longer known on this host."""
        try:
            return str(Cron(self.cron, self.time_zone))
        except CronInvalid:
            return ""

    def next_times(self, number: int) -> list[datetime]:
        """Return the next times in its time zone; none if it is switched off."""
        first = self.next_run_at
        if not self.enabled or first is None or not self.in_words:
            return []
        return list(Cron(self.cron, self.time_zone).times(first - timedelta(seconds=1), number))

    def time_after(self, moment: datetime) -> datetime | None:
        """Return the next time; None if it is switched off or its time zone is no longer known on this host."""
        try:
            return Cron(self.cron, self.time_zone).after(moment) if self.enabled else None
        except CronInvalid:
            return None

    def clean(self) -> None:
        if not (self.cron and self.time_zone):  # already reported at its field
            return
        try:
            Cron(self.cron, self.time_zone)
        except CronInvalid as error:
            raise ValidationError({"cron": str(error)}) from None

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():
            # under a lock, and compared with the stored row: the coordinator may have set a new time since this one was
            # read
            stored = Schedule.objects.select_for_update(no_key=True).filter(pk=self.pk).first()
            if stored and all(getattr(stored, name) == getattr(self, name) for name in self.TIMING):
                self.next_run_at = stored.next_run_at
            else:
                self.next_run_at = self.time_after(timezone.now())
            if stored and not any(self._differs(f, stored) for f in self._compared() if f.editable):
                # Who saves the form as it was has decided nothing
                self.owner, self.confirmed_at = stored.owner, stored.confirmed_at
            else:
                self.confirmed_at = timezone.now()
            super().save(*args, **kwargs)

    def confirm(self, by: Any) -> None:
        """Have it run from now on in this user's name, with all that it runs as that is now. It makes a version."""
        with transaction.atomic():
            stored = Schedule.objects.select_for_update(no_key=True, of=("self",)).get(pk=self.pk)
            stored.owner, stored.confirmed_at, stored.version = by, timezone.now(), stored.version + 1
            # Past the comparison of editable fields: none has changed, and yet somebody has decided something
            stored._change_reason = "confirmed"  # type: ignore[attr-defined]
            super(Versioned, stored).save(update_fields=["owner", "confirmed_at", "version"])
        self.refresh_from_db()
