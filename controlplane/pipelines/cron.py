"""Cron expressions: their check, their description in words, and their next times."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import islice

from cronsim import CronSim, CronSimError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from controlplane.times import known_zones

FIELDS = ("minute", "hour", _("day of month"), "month", _("day of week"))
_ALLOWED = {
    "minute": _("0 to 59"),
    "hour": _("0 to 23"),
    "day-of-month": _("1 to 31, or L for the last, a day that one of the months has"),
    "month": _("1 to 12, or JAN to DEC"),
    "day-of-week": _("0 (Sunday) to 6, or SUN to SAT; MON#1 for the first Monday of the month"),
}
_EXAMPLE = _("such as 30 2 * * MON-FRI")


class CronInvalid(ValueError):
    """A cron expression or its time zone is wrong; the message says what would be right."""


class Cron:
    """A cron expression of five fields in a time zone. Daylight saving works as in Debian's cron: a skipped time runs
    right after the change, a repeated time runs once (hourly expressions run each time). Raises CronInvalid."""

    def __init__(self, expression: str, zone: str) -> None:
        if zone not in known_zones():
            raise CronInvalid(gettext("There is no such time zone; name one such as Europe/Berlin, or UTC."))
        if len(expression.split()) != len(FIELDS):
            raise CronInvalid(
                gettext("Give five fields ({fields}), {example}.").format(
                    fields=", ".join(map(str, FIELDS)), example=_EXAMPLE
                )
            )
        self.expression, self.zone = expression, zoneinfo.ZoneInfo(zone)
        try:
            self._from(datetime.now(timezone.utc))
        except CronSimError as error:
            name = str(error).removeprefix("Bad ").lower()
            raise CronInvalid(
                gettext("The {part} is wrong; it may be {allowed}.").format(
                    part=name.replace("-", " "), allowed=_ALLOWED.get(name, _EXAMPLE)
                )
            ) from None

    def __str__(self) -> str:
        return f"{self._from(datetime.now(timezone.utc)).explain()}, {self.zone.key} time"

    def after(self, moment: datetime) -> datetime:
        """Return the first time after a moment, in UTC."""
        return next(self.times(moment)).astimezone(timezone.utc)

    def times(self, moment: datetime, number: int = 1) -> Iterator[datetime]:
        """Return the first times after a moment, in its time zone."""
        return islice(self._from(moment), number)

    def _from(self, moment: datetime) -> CronSim:
        return CronSim(self.expression, moment.astimezone(self.zone))
