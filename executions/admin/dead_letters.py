"""The admin of what parties sent and could not be applied."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display

from controlplane.admin.shown import moment
from controlplane.language import translated
from executions.admin.read_only import CreationFilter, ReadOnlyAdmin
from executions.models import DeadLetter


class PartyFilter(admin.SimpleListFilter):
    """Offers the parties that have sent some, as far as they may be seen."""

    title = parameter_name = "party"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = model_admin.get_queryset(request).order_by("party").values_list("party", flat=True)
        return [(name, name) for name in rows.distinct()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(party=self.value()) if self.value() else queryset


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    list_display = ("set_aside", "party", "kind", "shown_size", "shown_reason")
    list_filter = (PartyFilter, "kind", ("at", CreationFilter))
    none_yet = _("No dead letter. Here stands what a party sent and the control plane could not use.")
    csv_columns = (
        ("at", "at"), ("party", "party"), ("kind", "kind"), ("bytes", "size"), ("reason", "reason"),
    )  # fmt: skip
    search_fields = ("reason",)
    search_help_text = _("Part of the reason")
    get_search_results = ModelAdmin.get_search_results  # of each party there are few
    fields = ("at", "party", "kind", "shown_size", "shown_reason", "content")

    @display(description=_("At"), ordering="at")
    def set_aside(self, letter: Any) -> Any:
        return moment(letter.at)

    @display(description=_("reason"))
    def shown_reason(self, letter: Any) -> str:
        return translated(letter.reason)

    @display(description=_("Size"), ordering="size")
    def shown_size(self, letter: Any) -> str:
        return gettext("{size:,} bytes").format(size=letter.size)
