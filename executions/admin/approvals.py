"""The admin of approvals: what waits for whom, and what people at the parties decided on their own hosts."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display

from controlplane.admin.scoped import ScopedSelectFilter
from controlplane.admin.shown import exact, moment
from executions.admin.read_only import CreationFilter, ReadOnlyAdmin
from executions.models import Approval, ApprovalState


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    """Shows requests and decisions. Nobody decides here: people do on the party's host, with its key."""

    list_display = ("asked", "shown_party", "shown_execution", "shown_state", "decided_by", "reason", "shown_digest")
    list_filter = ("state", ("party", ScopedSelectFilter), ("asked_at", CreationFilter))
    none_yet = _("No approval was asked for yet. A party asks for them if its party.toml says so.")
    csv_columns = (
        ("party", lambda approval: approval.party.name), ("execution", "execution_id"), ("state", "state"),
        ("asked", "asked_at"), ("decided", "decided_at"), ("decided by", "decided_by"), ("reason", "reason"),
        ("request", "digest"),
    )  # fmt: skip
    list_select_related = ("party", "execution")
    search_fields = ("digest",)
    search_help_text = _("Beginning of the request's name")
    get_search_results = ModelAdmin.get_search_results
    fields = ("shown_party", "shown_execution", "state", "asked", "how", "decided", "decided_by", "reason")

    @display(description=_("Asked"), ordering="asked_at")
    def asked(self, approval: Approval) -> Any:
        return moment(approval.asked_at)

    @display(description=_("Decided"))
    def decided(self, approval: Approval) -> str:
        return exact(approval.decided_at) if approval.decided_at else gettext("not yet")

    @display(description=_("Party"), ordering="party__name")
    def shown_party(self, approval: Approval) -> str:
        return approval.party.name

    @display(description=_("Execution"))
    def shown_execution(self, approval: Approval) -> Any:
        url = reverse("admin:executions_execution_change", args=[approval.execution_id])
        return format_html('<a href="{}">{}</a>', url, approval.execution)

    @display(
        description=_("State"),
        ordering="state",
        label={ApprovalState.ASKED: "warning", ApprovalState.APPROVED: "success", ApprovalState.REFUSED: "danger"},
    )
    def shown_state(self, approval: Approval) -> tuple[str, str]:
        return approval.state, approval.get_state_display()

    @display(description=_("Request"))
    def shown_digest(self, approval: Approval) -> str:
        return approval.short

    @display(description=_("To decide"))
    def how(self, approval: Approval) -> Any:
        if approval.state != ApprovalState.ASKED:
            return gettext("It is decided.")
        return format_html(
            gettext("On {}'s host: <code>manage.py party approvals {}</code> shows what would run, "
            "<code>manage.py party approve {}</code> or <code>refuse {}</code> decides it."),
            approval.party.name, *[approval.short] * 3,
        )  # fmt: skip
