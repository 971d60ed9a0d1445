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
    """Return, for the head of every page, the environment's name and, where it is not production, its tier. In two
    parts for unfold: the text and the colour, which is the tier's (templates/admin/base.html goes by it)."""
    site = Site.current()
    if site.security == PRODUCTION:
        return (site.environment, "info") if site.environment else None
    return " ".join(filter(None, (site.environment, site.security))), "warning"


@admin.register(Site)
class SiteAdmin(ConfigAdmin):
    """One row: its list leads to its page, which is there before the row is."""

    search_fields = ()
    fields = ("environment", "security")
    shows_users = False  # they would be all there are

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Site | None = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:controlplane_site_change", args=[Site.current().pk]))

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Site | None:
        return Site.current() if object_id == str(Site.current().pk) else None
