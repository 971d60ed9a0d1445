"""The base of the admin of executions and of pipeline runs: lists of what was submitted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from controlplane.admin.filters import SuggestingFilter
from controlplane.admin.permissions import may
from controlplane.admin.shown import submission
from executions.admin.read_only import SEARCHED, ReadOnlyAdmin
from executions.permissions import CANCEL, RUN
from executions.states import BADGES


class SubmitterFilter(SuggestingFilter):
    """Filters by the user who submitted it. It suggests who has submitted the newest that its user sees."""

    title = _("submitted by")
    parameter_name = "submitted_by"

    def suggestions(self) -> Iterable[str]:
        newest = self.model_admin.get_queryset(self.request).order_by("-created_at", "-pk").prefetch_related(None)
        keys = set(newest.values_list("submitted_by", flat=True)[:SEARCHED])
        found = User.objects.filter(pk__in=keys - {None}).values_list("username", flat=True)
        return [self.request.user.get_username(), *found]

    def named(self, rows: QuerySet[Any], name: str) -> QuerySet[Any]:
        # Its key first: of a join the database does not know how many rows it finds
        key = User.objects.filter(username=name).values_list("pk", flat=True).first()
        return rows.none() if key is None else rows.filter(submitted_by=key)


class SubmissionAdmin(ReadOnlyAdmin):
    """Lists submissions with their status, time and submitter; they can be cancelled and run again."""

    #: The field with what it was submitted from. Its filter suggests what is in that list, to whoever may see it.
    submitted_from: ClassVar[str]

    sortable_by = ("submitted",)
    ordering = ("-created_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("submitted_by__password")

    def get_list_filter(self, request: HttpRequest) -> Any:
        hidden = "" if may(request, f"controlplane.view_{self.submitted_from}") else self.submitted_from
        return [entry for entry in self.list_filter if not (isinstance(entry, tuple) and entry[0] == hidden)]

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return may(request, CANCEL)

    def has_run_permission(self, request: HttpRequest) -> bool:
        return may(request, RUN)

    def is_live(self, rows: list[Any]) -> bool:
        return not all(row.has_ended for row in rows)

    @display(description=_("Status"), label=BADGES)
    def shown_status(self, row: Any) -> tuple[str, str]:
        return row.status, row.get_status_display()

    @display(description=_("Submitted"), ordering="created_at")
    def submitted(self, row: Any) -> Any:
        return submission(row.created_at, row.submitted_by)
