"""What other services do meanwhile: they submit executions, cancel some, and follow them to their ends."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from secretflow_controlplane_client import ControlPlaneError

from executions.states import ENDED
from fixtures.documents import psi_documents
from tests.plugin.light_task import light_documents, total_of
from tests.site.chaos.site import PARTIES, Site

KINDS = {"light": 6, "light of three": 2, "psi": 2, "wrong": 1}
#: What an execution shows of its getting on.
SHOWN = ("status", "attempt", "stage", "progress")


class Followed:
    """An execution as the service that submitted it sees it."""

    def __init__(self, pk: str, kind: str, expected: Any) -> None:
        self.pk, self.kind, self.expected = pk, kind, expected
        self.cancelled = False
        self.submitted_at = self.changed_at = time.monotonic()
        self.shown: dict[str, Any] = {}
        #: Seconds: the longest that it showed no change, and what it showed then; and until its end.
        self.longest_still, self.still_in = 0.0, ""
        self.took = 0.0
        #: How long it had shown no change when that was told last.
        self.told_still = 0.0

    def see(self, row: dict[str, Any]) -> bool:
        """Take in what the site shows of it. Returns whether it has ended."""
        now, shown = time.monotonic(), {name: row[name] for name in SHOWN}
        if now - self.changed_at > self.longest_still:
            self.longest_still, self.still_in = now - self.changed_at, str(self)
        if shown != self.shown:
            self.shown, self.changed_at, self.told_still = shown, now, 0.0
        if row["status"] in ENDED:
            self.took = now - self.submitted_at
            return True
        return False

    @property
    def still(self) -> float:
        """Return the seconds since it last showed a change."""
        return time.monotonic() - self.changed_at

    def __str__(self) -> str:
        shown = self.shown or {"status": "not seen yet", "attempt": 0, "stage": ""}
        stage = f", {shown['stage']}" if shown["stage"] else ""
        return f"{self.pk} ({self.kind}), {shown['status']}, attempt {shown['attempt']}{stage}"


class Services:
    """Submits executions of all kinds, and looks how they are."""

    #: Seconds between two looks at all of them: each costs the site some work.
    LOOK_EVERY = 0.5

    def __init__(self, site: Site) -> None:
        self.site, self.service, self.draw = site, site.service, site.draw
        self.all: dict[str, Followed] = {}
        self.open: dict[str, Followed] = {}
        self._look_at = 0.0

    def submit(self) -> None:
        """Submit one; the service tries again later where the site cannot take it."""
        kind = self.draw.choices(list(KINDS), list(KINDS.values()))[0]
        body, expected = self._documents(kind)
        try:
            execution = self.service.call(
                "POST", "executions/", body | {"name": kind, "priority": self.draw.randrange(3)}
            )
        except ControlPlaneError:  # the database is away, or locked
            return
        followed = Followed(execution["id"], kind, expected)
        self.all[followed.pk] = self.open[followed.pk] = followed
        if self.site.full_disks:
            self.site.without_journal.add(followed.pk)
        if self.draw.random() < 0.1:
            self.site.later(10, lambda: self.cancel(followed))

    def _documents(self, kind: str) -> tuple[dict[str, Any], Any]:
        if kind == "psi":
            return psi_documents(), None
        parties = list(PARTIES) if kind == "light of three" else self.draw.sample(PARTIES, 2)
        rounds = self.draw.randrange(1, 60)
        dataset = "absent" if kind == "wrong" else "breast_cancer"
        return light_documents(parties, rounds, dataset), total_of(rounds, len(parties))

    def cancel(self, followed: Followed) -> None:
        followed.cancelled = True
        with suppress(ControlPlaneError):  # it has ended, or the database is locked: before the cancelling, or after it
            self.service.call("POST", f"/api/v1/executions/{followed.pk}/cancel/")

    def look(self) -> None:
        """See how the open ones are."""
        if time.monotonic() < self._look_at or not self.open:
            return
        self._look_at = time.monotonic() + self.LOOK_EVERY
        if self.site.full_disks:
            self.site.without_journal |= set(self.open)
        try:
            rows = {e["id"]: e for e in self.service.call("GET", "/api/v1/executions/?page_size=20")["results"]}
            # Not among the newest: it takes long, or a clock was wrong as it or others were submitted
            for pk in self.open.keys() - rows.keys():
                rows[pk] = self.service.call("GET", f"/api/v1/executions/{pk}/")
        except ControlPlaneError:
            return
        for pk, followed in list(self.open.items()):
            if followed.see(rows[pk]):
                del self.open[pk]
                self.site.ended.append(pk)
