"""The admin of the audit trail: for administrators, to read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display

from controlplane.access import Access
from controlplane.admin.permissions import may
from controlplane.admin.shown import exact
from controlplane.language import translated
from controlplane.models import AuditEntry
from executions.admin.read_only import ReadOnlyAdmin


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("when", "actor", "address", "shown_action", "subject", "shown_details", "is_sealed")
    list_filter = ("action",)
    none_yet = _("Nothing has been noted yet.")
    csv_columns = (
        ("at", "at"), ("actor", "actor"), ("address", "address"), ("action", "action"), ("subject", "subject"),
        ("details", "details"), ("digest", "digest"), ("position", "position"), ("hash", "hash"),
    )  # fmt: skip
    search_fields = ("actor__exact", "subject__exact")
    search_help_text = _("Whole name of an actor or a subject, such as party alice")
    get_search_results = ModelAdmin.get_search_results
    fields = ("when", "actor", "address", "shown_action", "subject", "shown_details", "digest", "position", "hash")

    @display(description=_("At"), ordering="pk")
    def when(self, entry: AuditEntry) -> str:
        return exact(entry.at)

    @display(description=_("action"), ordering="action")
    def shown_action(self, entry: AuditEntry) -> str:
        return translated(entry.action)

    @display(description=_("details"))
    def shown_details(self, entry: AuditEntry) -> str:
        return translated(entry.details)

    @display(description=_("Sealed"), boolean=True)
    def is_sealed(self, entry: AuditEntry) -> bool:
        return entry.position is not None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # an entry may name any party
        return may(request, "controlplane.view_auditentry") and Access.of(request).parties is None
