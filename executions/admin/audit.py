"""The admin of the audit trail: for administrators, to read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from controlplane.access import Access
from controlplane.admin.permissions import may
from controlplane.admin.shown import exact
from controlplane.models import AuditEntry
from executions.admin.read_only import ReadOnlyAdmin


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("when", "actor", "address", "action", "subject", "details", "is_sealed")
    list_filter = ("action",)
    none_yet = "Nothing has been noted yet."
    csv_columns = (
        ("at", "at"), ("actor", "actor"), ("address", "address"), ("action", "action"), ("subject", "subject"),
        ("details", "details"), ("digest", "digest"), ("position", "position"), ("hash", "hash"),
    )  # fmt: skip
    search_fields = ("actor__exact", "subject__exact")
    search_help_text = "Whole name of an actor or a subject, such as party alice"
    get_search_results = ModelAdmin.get_search_results
    fields = ("when", "actor", "address", "action", "subject", "details", "digest", "position", "hash")

    @display(description="At", ordering="pk")
    def when(self, entry: AuditEntry) -> str:
        return exact(entry.at)

    @display(description="Sealed", boolean=True)
    def is_sealed(self, entry: AuditEntry) -> bool:
        return entry.position is not None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # an entry may name any party
        return may(request, "controlplane.view_auditentry") and Access.of(request).parties is None
