"""Who may run something, in the admin, and what came of it the last time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.contrib.admin.utils import unquote
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from controlplane.access import Access
from controlplane.admin.permissions import may
from controlplane.admin.shown import NOTHING, link, moment
from executions.permissions import RUN
from executions.states import BADGES


def may_run(request: HttpRequest, row: Any) -> bool:
    """Return whether the user of the request may run a row, or what it was once more: with all its parties."""
    return may(request, RUN) and Access.of(request).covers(row)


class Runnable:
    """Part of the admin of tasks and of pipelines: answers unfold's question who may use an action with
    ``permissions=("run",)``."""

    def has_run_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        if not may(request, RUN):
            return False
        row = self.get_object(request, unquote(str(object_id))) if object_id else None  # type: ignore[attr-defined]
        return row is None or may_run(request, row)  # one that is not there is not found


def newest_of(model: Any, rows: Sequence[Any], made: Any, by: str) -> QuerySet[Any]:
    """Return of each of the rows the newest of what was made of it, a model with a foreign key that is called like
    ``model``; ``by``: the order, newest first. Takes two queries."""
    own = made.objects.filter(**{model._meta.model_name: OuterRef("pk")})
    newest = Subquery(own.order_by(by).values("pk")[:1])
    keys = model.objects.filter(pk__in=[row.pk for row in rows]).order_by().values_list(newest, flat=True)
    return made.objects.filter(pk__in=[key for key in keys if key])


def link_to(started: Any, at: datetime) -> Any:
    """Return a time that leads to the page of the execution or pipeline run that was started then."""
    return link(reverse(f"admin:executions_{started._meta.model_name}_change", args=[started.pk]), moment(at))


class LastRun:
    """Part of the admin of tasks and of pipelines: columns of what was last submitted of a row, its ``latest``."""

    @display(description=_("Last result"), label=BADGES)
    def shown_latest(self, row: Any) -> tuple[str, str] | str:
        return (row.latest.status, row.latest.get_status_display()) if row.latest else ""

    @display(description=_("Last run"))
    def shown_latest_time(self, row: Any) -> Any:
        return link_to(row.latest, row.latest.created_at) if row.latest else NOTHING
