"""The admin of the installation itself: its environment and security."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from controlplane.admin.base import ConfigAdmin
from controlplane.models import (
    PRODUCTION,
    Site,
)


def environment_label(request: HttpRequest) -> tuple[str, str] | None:
    """Return the label in the head of every page: the environment's name and, unless it is production, its tier. unfold
    wants two parts: the text and the colour. The colour shows the tier (templates/admin/base.html uses it)."""
    site = Site.current()
    if site.security == PRODUCTION:
        return (site.environment, "info") if site.environment else None
    return " ".join(filter(None, (site.environment, site.security))), "warning"


@admin.register(Site)
class SiteAdmin(ConfigAdmin):
    """The admin of the one row: the list leads to its page, even before the row exists."""

    search_fields = ()
    fields = ("environment", "security")
    shows_users = False  # every task depends on the site

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Site | None = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:controlplane_site_change", args=[Site.current().pk]))

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Site | None:
        return Site.current() if object_id == str(Site.current().pk) else None
