"""Publications: what a party's host tells of its datasets, all at once."""

from __future__ import annotations

import time

from django.db import models
from django.utils.translation import gettext_lazy as _

from controlplane.models.party import Party
from workers.contract.orders import LASTS

#: Reports of one publication that are taken: more than a host needs for as many tables as are kept of a party.
MOST_REPORTS = 2000


class NotTaken(Exception):
    """A report does not count; the text says why, and what to do on the party's host."""


class Publication(models.Model):
    """The newest publication of a party that was applied. Whoever writes to Redis may keep an older one, signed as it
    is, and write it again."""

    party = models.OneToOneField(Party, on_delete=models.CASCADE, related_name="publication")
    told_at = models.FloatField(help_text=_("Seconds since 1970 by the clock of the party's host."))
    reports = models.JSONField(default=list, help_text=_("Digests of its reports that were applied."))

    def __str__(self) -> str:
        return f"publication of {self.party}"

    @classmethod
    def take(cls, party: Party, told_at: float, digest: str) -> bool:
        """Note a report of the publication that was made then; the party is locked. Returns whether it is read for the
        first time. Raises NotTaken."""
        if (ahead := told_at - time.time()) > LASTS:
            # It would make all older ones useless: a clock that is wrong would shut its party out for as long
            raise NotTaken(
                f"its host's clock is {ahead / 3600:,.1f} hours ahead of this coordinator's; set the clock that is "
                "wrong, and publish again"
            )
        newest, _ = cls.objects.get_or_create(party=party, defaults={"told_at": told_at})
        if (late := newest.told_at - told_at) > 0:
            raise NotTaken(
                f"a newer publication of {party} was applied; if the tables of this host are the newer ones, set its "
                f"clock, or publish again in {max(1, round(late)):,} seconds"
            )
        if late < 0:
            newest.told_at, newest.reports = told_at, []
        if digest in newest.reports:
            return False
        if len(newest.reports) >= MOST_REPORTS:
            raise NotTaken(f"a publication has at most {MOST_REPORTS:,} reports")
        newest.reports.append(digest)
        newest.save()
        return True
