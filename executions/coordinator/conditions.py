"""Watches what no change tells of: parties without workers, datasets that drift, tasks that others make invalid, and
times without a coordinator."""

from __future__ import annotations

import time
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from redis import Redis

from controlplane.models import Dataset, Notice, Party
from controlplane.models.dataset import DIFFERS, UNREADABLE
from executions.coordinator.capacity import live_workers
from executions.coordinator.notices import tell
from executions.coordinator.validity import Validity
from executions.models import Beat, Condition

#: Seconds between two looks, and for which a party has to be without a worker.
INTERVAL, AWAY_AFTER = 15.0, 60.0
#: Parties and datasets that are looked at.
MOST_WATCHED = 2000


class Conditions:
    """Looks once in a while. Any number of coordinators may: each change is told by one of them."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self._look_at = 0.0
        self._validity = Validity()
        #: When each party was first seen without a worker.
        self._away: dict[str, float] = {}

    def step(self) -> None:
        """Look, if it is time to. Raises RedisError."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + INTERVAL
        self._look_at_datasets()
        self._validity.step()
        self._look_at_parties()

    def _look_at_parties(self) -> None:
        keys = dict(Party.objects.order_by("pk").values_list("name", "pk")[:MOST_WATCHED])
        alive = live_workers(self.connection, keys)
        known = dict(Condition.objects.filter(kind=Notice.PARTY_AWAY).values_list("key", "is_bad"))
        for name, number in alive.items():
            if number:
                self._away.pop(name, None)
                if known.get(name, True):  # one that was never seen, too: only what was there can go away
                    Condition.turns(Notice.PARTY_AWAY, name, is_bad=False)
            elif known.get(name) is False:
                since = self._away.setdefault(name, time.monotonic())
                if time.monotonic() - since >= AWAY_AFTER:
                    self._tell_of_party(name, keys[name])
        gone = [name for name in known if name not in keys]
        if gone and len(keys) < MOST_WATCHED:
            Condition.objects.filter(kind=Notice.PARTY_AWAY, key__in=gone).delete()

    @staticmethod
    @transaction.atomic
    def _tell_of_party(name: str, pk: int) -> None:
        if Condition.turns(Notice.PARTY_AWAY, name, is_bad=True):
            path = reverse("admin:controlplane_party_change", args=[pk])
            tell(Notice.PARTY_AWAY, f"{name} has no live worker", path, name, "controlplane.view_party")

    @staticmethod
    def _look_at_datasets() -> None:
        rows = Dataset.objects.filter(
            Q(pk__in=Dataset.in_state(Dataset.objects.order_by(), DIFFERS).values("pk"))
            | Q(pk__in=Dataset.in_state(Dataset.objects.order_by(), UNREADABLE).values("pk"))
        )
        found = {str(d.pk): d for d in rows.select_related("party").order_by("pk")[:MOST_WATCHED]}
        known = set(Condition.objects.filter(kind=Notice.DRIFT).values_list("key", flat=True))
        for key in found.keys() - known:
            with transaction.atomic():
                if Condition.turns(Notice.DRIFT, key, is_bad=True):
                    dataset = found[key]
                    state = "cannot be read on its host" if dataset.state == UNREADABLE else "is not as registered"
                    path = reverse("admin:controlplane_dataset_change", args=[dataset.pk])
                    name = dataset.party.name
                    tell(Notice.DRIFT, f"Dataset {dataset} {state}", path, name, "controlplane.view_dataset")
        if (over := known - found.keys()) and len(found) < MOST_WATCHED:
            Condition.objects.filter(kind=Notice.DRIFT, key__in=list(over)[:500]).delete()


@transaction.atomic
def tell_of_absence() -> None:
    """Tell that there was no coordinator for a while, if so. Called as one begins, before it notes that it lives."""
    ages = Beat.ages()
    if not ages or ages[0] <= Beat.AWAY_AFTER:
        return
    now = timezone.now()
    row, is_new = Condition.objects.get_or_create(kind=Notice.COORDINATOR, key="absence", defaults={"since": now})
    recently = now - timedelta(seconds=Beat.AWAY_AFTER)
    if is_new or Condition.objects.filter(pk=row.pk, since__lt=recently).update(since=now):
        minutes = max(1, round(ages[0] / 60))
        tell(Notice.COORDINATOR, f"No coordinator was running for {minutes} min; one is again", reverse("admin:index"))
