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
from django.utils.translation import gettext, ngettext, ngettext_lazy
from redis.exceptions import RedisError

from controlplane.access import Access
from controlplane.admin.permissions import may
from controlplane.admin.shown import first_names
from controlplane.language import translated
from controlplane.models import Dataset, Party, Task
from controlplane.models.dataset import DIFFERS, UNREADABLE
from executions.coordinator.capacity import live_workers
from executions.health import coordinator_trouble
from executions.models import Condition, DeadLetter, Execution
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
    return [*_servers(hosts), *_parties(hosts), *_executions(request), *_datasets(request), *_tasks(request)]


def _servers(hosts: Hosts) -> Iterator[Matter]:
    if told := coordinator_trouble():
        yield Matter("danger", translated(told))
    if hosts.alive is None:
        yield Matter("danger", translated(hosts.trouble))


def _parties(hosts: Hosts) -> Iterator[Matter]:
    away = [name for name, number in (hosts.alive or {}).items() if not number]
    if away:
        told = ngettext("{parties} has no live worker.", "{parties} have no live worker.", len(away))
        yield Matter(
            "warning",
            told.format(parties=first_names(away, NAMED)),
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
        yield Matter(
            "danger",
            gettext("{number} failed in the last 24 hours.").format(number=number),
            f"{page}?status__exact=FAILURE",
        )
    waiting = rows.filter(status=Status.QUEUED, created_at__lt=timezone.now() - LONG).order_by("created_at")
    if number := _count(waiting):
        yield Matter(
            "warning",
            gettext("{number} waited for more than 10 minutes.").format(number=number),
            f"{page}?status__exact=QUEUED",
        )
    asked = rows.filter(status=Status.AWAITING_APPROVAL).order_by("created_at")
    if number := _count(asked):
        page = reverse("admin:executions_approval_changelist")
        yield Matter("warning", gettext("{number} awaiting approval of people at a party.").format(number=number), page)
    if Access.of(request).parties is None:
        letters = DeadLetter.objects.filter(at__gte=since).order_by("-at")
        if count := _count(letters, ngettext_lazy("{number} dead letter", "{number} dead letters", "number")):
            page = reverse("admin:executions_deadletter_changelist")
            yield Matter(
                "warning",
                gettext("{count} in the last 24 hours: what parties sent and could not be applied.").format(
                    count=count
                ),
                page,
            )


def _datasets(request: HttpRequest) -> Iterator[Matter]:
    if not may(request, "controlplane.view_dataset"):
        return
    rows = Access.of(request).visible(Dataset.objects.order_by("pk"))
    page = reverse("admin:controlplane_dataset_changelist")
    for state, told in (
        (
            DIFFERS,
            ngettext_lazy("{number} dataset is not as registered", "{number} datasets are not as registered", "number"),
        ),
        (
            UNREADABLE,
            ngettext_lazy(
                "{number} dataset is unreadable on the party's host",
                "{number} datasets are unreadable on the party's host",
                "number",
            ),
        ),
    ):
        if count := _count(Dataset.in_state(rows, state), told):
            yield Matter("warning", f"{count}.", f"{page}?state={state.replace(' ', '+')}")


_RUNS = ngettext_lazy("{number} execution", "{number} executions", "number")


def _tasks(request: HttpRequest) -> Iterator[Matter]:
    if not may(request, "controlplane.view_task"):
        return
    rows = Access.of(request).visible(Task.objects.filter(pk__in=Condition.invalid_tasks())).order_by("pk")
    words = ngettext_lazy("{number} task is not valid any more", "{number} tasks are not valid any more", "number")
    if count := _count(rows, words):
        yield Matter("warning", f"{count}.", f"{reverse('admin:controlplane_task_changelist')}?validity=no")


def _count(rows: QuerySet[Any], words: Any = _RUNS) -> str:
    """Return the number of rows in its ``words``, for one and for several; empty if there is none."""
    number = rows[: COUNTED + 1].values("pk").count()
    if number > COUNTED:
        return gettext("More than {what}").format(what=(words % {"number": COUNTED}).format(number=COUNTED))
    return (words % {"number": number}).format(number=number) if number else ""
