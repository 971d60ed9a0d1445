"""The admin of what parties sent and could not be applied."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from unfold.admin import ModelAdmin
from unfold.decorators import display

from executions.admin.read_only import ReadOnlyAdmin
from executions.models import DeadLetter


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    list_display = ("at", "party", "kind", "shown_size", "reason")
    list_filter = ("party", "kind")
    search_fields = ("reason",)
    search_help_text = "Part of the reason"
    get_search_results = ModelAdmin.get_search_results  # of each party there are few
    fields = ("at", "party", "kind", "shown_size", "reason", "content")

    @display(description="Size", ordering="size")
    def shown_size(self, letter: Any) -> str:
        return f"{letter.size:,} bytes"
