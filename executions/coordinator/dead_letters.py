"""Sets aside what a party sent and what cannot be applied."""

from __future__ import annotations

import logging
import time
from collections import Counter

from django.db import transaction

from executions.models import DeadLetter
from executions.models.total import LETTER, Tally

log = logging.getLogger(__name__)

#: Letters of a party that are kept, and that are stored in a minute: a party that sends nothing else fills no database.
MOST_KEPT, MOST_A_MINUTE = 200, 20
#: Characters of each that are kept.
MOST_CONTENT = 4000


class _Minute:
    """Counts the letters of each party in this minute."""

    began = 0.0
    letters: Counter[str] = Counter()


def set_aside(party: str, kind: str, raw: bytes, reason: str) -> None:
    """Store what was sent, with the reason why it cannot be applied, and tell the log; of a flood only some."""
    if time.monotonic() - _Minute.began > 60:
        if lost := {p: count - MOST_A_MINUTE for p, count in _Minute.letters.items() if count > MOST_A_MINUTE}:
            more = ", ".join(f"{count:,} of {p}" for p, count in lost.items())
            log.warning("in the last minute more entries could not be applied, and are not kept: %s", more)
        _Minute.began = time.monotonic()
        _Minute.letters.clear()
    _Minute.letters[party] += 1
    if _Minute.letters[party] > MOST_A_MINUTE:
        return
    log.warning("%s of %s was set aside: %s", kind, party, reason[:300])
    with transaction.atomic():
        DeadLetter.objects.create(
            party=party[:32],
            kind=kind,
            reason=_storable(reason[:500]),
            content=_storable(raw[:MOST_CONTENT].decode(errors="backslashreplace"))[:MOST_CONTENT],
            size=len(raw),
        )
        tally = Tally()
        tally.add(LETTER, party[:32])
        tally.write()
        own = DeadLetter.objects.filter(party=party[:32])
        if beyond := own.order_by("-pk").values_list("pk", flat=True)[MOST_KEPT:].first():
            own.filter(pk__lte=beyond).delete()


def _storable(text: str) -> str:
    """Return a text that every database takes."""
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()
