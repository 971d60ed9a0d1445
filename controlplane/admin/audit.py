"""The admin of the audit trail: for administrators, to read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from controlplane.access import Access
from controlplane.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(ModelAdmin):
    list_display = ("at", "actor", "address", "action", "subject", "details", "is_sealed")
    list_filter = ("action",)
    search_fields = ("actor__exact", "subject__exact")
    search_help_text = "Whole name of an actor or a subject, such as party alice"
    fields = ("at", "actor", "address", "action", "subject", "details", "digest", "position", "hash")
    list_per_page = 50
    show_full_result_count = False

    @display(description="Sealed", boolean=True)
    def is_sealed(self, entry: AuditEntry) -> bool:
        return entry.position is not None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # an entry may name anybody and anything
        return super().has_view_permission(request, obj) and Access.of(request).parties is None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
