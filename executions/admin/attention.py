"""What needs somebody's attention, for the overview."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from redis.exceptions import RedisError

from controlplane.access import Access
from controlplane.admin.permissions import may
from controlplane.models import Dataset, Party
from controlplane.models.dataset import DIFFERS, UNREADABLE
from executions.coordinator.capacity import live_workers
from executions.health import coordinator_trouble
from executions.models import DeadLetter, Execution
from executions.permissions import VIEW
from executions.redis import redis_connection
from executions.states import Status
from workers.contract.connection import trouble

#: Rows that are counted exactly, and names that are listed.
COUNTED, NAMED = 100, 5
#: After so long an execution that waits is told of.
LONG = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Matter:
    """Something that needs attention: how urgent it is (a colour), what it is, and where to look at it."""

    colour: str
    text: str
    url: str = ""


@dataclass(slots=True)
class Hosts:
    """The live workers of the parties that somebody may see. ``alive`` is None where Redis does not answer."""

    alive: dict[str, int] | None
    trouble: str = ""

    @classmethod
    def look(cls, access: Access) -> Hosts:
        names = list(access.visible(Party.objects.order_by("name")).values_list("name", flat=True)[:500])
        try:
            return cls(live_workers(redis_connection(), names))
        except (RedisError, OSError) as error:
            return cls(None, trouble(error))


def matters(request: HttpRequest, hosts: Hosts) -> list[Matter]:
    """Return what needs attention, the most urgent first. Counts stop at ``COUNTED``, so that it takes the same time
    whatever there is."""
    return [*_servers(hosts), *_parties(hosts), *_executions(request), *_datasets(request)]


def _servers(hosts: Hosts) -> Iterator[Matter]:
    if told := coordinator_trouble():
        yield Matter("danger", told)
    if hosts.alive is None:
        yield Matter("danger", hosts.trouble)


def _parties(hosts: Hosts) -> Iterator[Matter]:
    away = [name for name, number in (hosts.alive or {}).items() if not number]
    if away:
        more = f" and {len(away) - NAMED} more" if len(away) > NAMED else ""
        verb = "has" if len(away) == 1 else "have"
        yield Matter(
            "warning",
            f"{', '.join(away[:NAMED])}{more} {verb} no live worker.",
            reverse("admin:controlplane_party_changelist"),
        )


def _executions(request: HttpRequest) -> Iterator[Matter]:
    if not may(request, VIEW):
        return
    rows = Access.of(request).visible(Execution.objects.all())
    page = reverse("admin:executions_execution_changelist")
    since = timezone.now() - timedelta(hours=24)
    # Each in the order of an index, so that counting stops early
    failed = rows.filter(status=Status.FAILURE, created_at__gte=since).order_by("-created_at")
    if number := _count(failed):
        yield Matter("danger", f"{number} failed in the last 24 hours.", f"{page}?status__exact=FAILURE")
    waiting = rows.filter(status=Status.QUEUED, created_at__lt=timezone.now() - LONG).order_by("created_at")
    if number := _count(waiting):
        yield Matter("warning", f"{number} waited for more than 10 minutes.", f"{page}?status__exact=QUEUED")
    asked = rows.filter(status=Status.AWAITING_APPROVAL).order_by("created_at")
    if number := _count(asked):
        page = reverse("admin:executions_approval_changelist")
        yield Matter("warning", f"{number} awaiting approval of people at a party.", page)
    if Access.of(request).parties is None:
        letters = DeadLetter.objects.filter(at__gte=since).order_by("-at")
        if count := _count(letters, ("dead letter", "dead letters")):
            page = reverse("admin:executions_deadletter_changelist")
            yield Matter("warning", f"{count} in the last 24 hours: what parties sent and could not be applied.", page)


def _datasets(request: HttpRequest) -> Iterator[Matter]:
    if not may(request, "controlplane.view_dataset"):
        return
    rows = Access.of(request).visible(Dataset.objects.order_by("pk"))
    page = reverse("admin:controlplane_dataset_changelist")
    for state, told in ((DIFFERS, "not as registered"), (UNREADABLE, "unreadable on the party's host")):
        if count := _count(Dataset.in_state(rows, state), ("dataset", "datasets")):
            verb = "is" if count.startswith("1 ") else "are"
            yield Matter("warning", f"{count} {verb} {told}.", f"{page}?state={state.replace(' ', '+')}")


def _count(rows: QuerySet[Any], words: tuple[str, str] = ("execution", "executions")) -> str:
    """Return the number of rows with its word; empty if there is none."""
    number = rows[: COUNTED + 1].values("pk").count()
    if number > COUNTED:
        return f"More than {COUNTED} {words[1]}"
    return f"{number} {words[number != 1]}" if number else ""
