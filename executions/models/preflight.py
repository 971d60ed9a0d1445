"""Rounds of checks by the parties' own hosts."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from controlplane.documents.encryption import protect_all
from controlplane.models import Party
from controlplane.models.protection import protect
from executions.models.execution import Execution
from executions.patience import Patience
from executions.redis import wake_coordinator
from workers.contract.alignment import misaligned
from workers.contract.errors import is_link

#: Name of the check that fails if a party does not answer.
SILENT = "answer"
#: Name of the check that fails if the parties could not be asked.
UNASKED = "request"


@dataclass(frozen=True, slots=True)
class CheckProblem:
    """A pre-flight check that failed."""

    party: str
    check: str
    error: str
    error_type: str

    @property
    def is_link(self) -> bool:
        """Return whether another party may have caused it."""
        return is_link(self.error_type)


def _is_dict(told: Any) -> bool:
    return isinstance(told, dict)


def _is_alignment(told: Any) -> bool:
    """Return whether the value is an alignment or None. Hosts of an older version do not report it."""
    return told is None or (isinstance(told, str) and len(told) <= 200)


class PreflightManager(models.Manager["Preflight"]):
    def ask(self, documents: Mapping[str, Any], *, name: str = "", by: Any = None) -> Preflight:
        """Return new checks of valid documents, which a coordinator requests from the parties at its next step. Raises
        DocumentsInvalid for a secret that is only a mask."""
        with transaction.atomic():
            asked = self.create(name=name, requested_by=by, documents=protect_all(documents, {}))
            parties = {
                party.name: party for party in Party.objects.filter(name__in=documents["sf_init_config"]["parties"])
            }
            PartyCheck.objects.bulk_create(
                PartyCheck(preflight=asked, party=parties[name])
                for name in documents["sf_init_config"]["parties"]
                if name in parties
            )
            transaction.on_commit(wake_coordinator)
        return asked


class Preflight(models.Model):
    """A round of checks by the parties' own hosts (``workers.runtime.preflight``), for an execution that is about to be
    dispatched, or on request."""

    #: Time without a sign of life after which a host counts as silent; hosts send one every two seconds.
    SILENCE = timedelta(seconds=10)
    #: So long after the last party has answered, the findings may no longer be true.
    FRESH = timedelta(seconds=30)
    #: Longer than a round takes: a worker ends checks that go on for ten minutes.
    LONGEST = timedelta(minutes=15)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, null=True, related_name="preflights")
    name = models.CharField(max_length=100, blank=True, help_text=_("Name of the task that is checked."))
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    requested_at = models.DateTimeField(default=timezone.now)
    is_ahead = models.BooleanField(
        default=False, help_text=_("Requested while another execution was at work: what failed is checked again.")
    )
    documents = models.JSONField(
        null=True, editable=False, help_text=_("What is to be checked, until the coordinator has asked the parties.")
    )
    unasked_because = models.CharField(
        max_length=500, blank=True, help_text=_("Why the parties could not be asked, if they could not.")
    )

    objects = PreflightManager()

    #: Who looks at it again and again counts the time by itself; else the time of day tells how long ago something was.
    patience: Patience | None = None

    class Meta:
        ordering = ["-requested_at"]
        # For the rounds of the last minutes, among those of years
        indexes = [
            models.Index(fields=["requested_at"], name="latest_preflights"),
            models.Index(
                fields=["requested_at"], name="preflights_to_ask", condition=models.Q(documents__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"pre-flight checks of {self.name or self.execution or str(self.pk)[:8]}"

    @classmethod
    def involving(
        cls, rows: models.QuerySet[Any], parties: Collection[str], wholly: bool = False
    ) -> models.QuerySet[Any]:
        """Return those of the rows that involve at least one of the parties."""
        return rows.filter(
            models.Exists(PartyCheck.objects.filter(preflight=models.OuterRef("pk"), party__name__in=parties))
        )

    @cached_property
    def parties(self) -> list[PartyCheck]:
        """Return each party's part, in the cluster's order."""
        return list(self.checks.select_related("party").order_by("pk"))

    @property
    def problems(self) -> list[CheckProblem]:
        """Return what failed, party by party, and where the parties do not suit each other."""
        if self.unasked_because:
            return [CheckProblem("", UNASKED, self.unasked_because, "ResourceError")]
        found = [
            CheckProblem(part.party.name, entry["check"], entry["error"], entry["error_type"])
            for part in self.parties
            for entry in part.results
            if entry["error"]
        ]
        found += [*self._different_versions(), *self._different_rows(), *self._silent()]
        # If a party failed before it could meet the others, that is why they missed it
        return [problem for problem in found if not problem.is_link] or found

    def _different_versions(self) -> Iterator[CheckProblem]:
        told = {part.party.name: part.facts.get("versions") for part in self.parties}
        versions = {party: version for party, version in told.items() if isinstance(version, dict)}
        for package in ("secretflow", "spu"):
            found: dict[str, list[str]] = {}
            for party, version in versions.items():
                found.setdefault(str(version.get(package)), []).append(party)
            if len(found) > 1:
                said = ", ".join(f"{version} at {' and '.join(names)}" for version, names in found.items())
                error = f"the parties have different versions of {package}: {said}; install the same one everywhere"
                yield CheckProblem(min(found.values(), key=len)[0], "versions", error, "ConfigError")

    def _different_rows(self) -> Iterator[CheckProblem]:
        """Yield problems of parties whose rows have to line up: other numbers of rows, as far as their policies let
        them report these, or other alignments."""
        facts = {part.party.name: part.facts for part in self.parties if part.facts.get("rows_line_up") is True}
        told = {party: found["dataset"].get("rows") for party, found in facts.items() if _is_dict(found.get("dataset"))}
        rows = {party: number for party, number in told.items() if isinstance(number, int)}
        alignments = {p: found["alignment"] for p, found in facts.items() if _is_alignment(found.get("alignment", 0))}
        if error := misaligned(alignments, rows):
            yield CheckProblem(next(iter(facts)), "rows", error, "ConfigError")

    def _silent(self) -> Iterator[CheckProblem]:
        if self.documents is not None:
            if self._ago(self.requested_at, self.SILENCE, self.pk) > self.SILENCE:
                error = "no coordinator has asked the parties yet; is `manage.py coordinate` running, and Redis there?"
                yield CheckProblem("", UNASKED, error, "ResourceError")
            return
        for part in self.parties:
            if part.answered_at is None and self._ago(part.heard_at, self.SILENCE, part.pk) > self.SILENCE:
                error = f"no worker of {part.party.name} answered the pre-flight checks; look at its output"
                yield CheckProblem(part.party.name, SILENT, error, "ResourceError")

    def _ago(self, since: datetime, limit: timedelta, key: Any) -> timedelta:
        if self.patience is None:
            return timezone.now() - since
        return timedelta(seconds=self.patience.seconds(key, since, limit))

    @property
    def is_complete(self) -> bool:
        """Return whether no answer is missing."""
        if self.unasked_because or any(self._silent()):
            return True
        return self.documents is None and all(part.answered_at for part in self.parties)

    @property
    def is_fresh(self) -> bool:
        """Return whether everybody has answered, the last one not long ago.

        Not each one: where one table takes minutes, the others' answers would be too old by then, every time.
        """
        answers = [part.answered_at for part in self.parties if part.answered_at]
        return len(answers) == len(self.parties) and self._ago(max(answers), self.FRESH, self.pk) < self.FRESH

    @property
    def state(self) -> str:
        """Return ``checking``, ``passed`` or ``failed``. It is ``failed`` as soon as a party reports a cause of its
        own."""
        problems = self.problems
        if self.is_complete or any(not problem.is_link for problem in problems):
            return "failed" if problems else "passed"
        return "checking"


class PartyCheck(models.Model):
    """One party's part in a round of pre-flight checks."""

    preflight = models.ForeignKey(Preflight, on_delete=models.CASCADE, related_name="checks")
    party = models.ForeignKey(Party, on_delete=protect, related_name="+")
    ports = models.JSONField(default=list, help_text=_("Ports that are checked; the dispatch that follows uses them."))
    heard_at = models.DateTimeField(default=timezone.now, help_text=_("Time of the last sign of life."))
    answered_at = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=200, blank=True)
    results = models.JSONField(default=list, help_text=_("Checks, each with its error if it failed."))
    facts = models.JSONField(
        default=dict, help_text=_("Versions, free memory and disk in bytes, and the dataset's columns.")
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["preflight", "party"], name="a_party_checks_once")]

    def __str__(self) -> str:
        return f"{self.party.name}: {self.preflight_id}"
