"""Who may do what through the API."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import SAFE_METHODS, DjangoModelPermissions
from rest_framework.request import Request

from controlplane.access import Access


class ModelPermissions(DjangoModelPermissions):
    """Asks for Django's permissions on the model, reading included, so that the API and the admin allow the same; and
    for all parties of a row before it is changed."""

    perms_map = DjangoModelPermissions.perms_map | {
        "GET": ["%(app_label)s.view_%(model_name)s"],
        "HEAD": ["%(app_label)s.view_%(model_name)s"],
        "OPTIONS": ["%(app_label)s.view_%(model_name)s"],
    }

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user.is_authenticated:
            return False
        if getattr(view, "_ignore_model_permissions", False):  # the root of the API, which lists addresses
            return True
        # not by get_queryset, which asks the database for whoever may not even ask
        return Access.of(request).may(*self.get_required_permissions(str(request.method), view.queryset.model))

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return request.method in SAFE_METHODS or Access.of(request).covers(obj)


class ChangePermission(ModelPermissions):
    """Asks for the permission to change where a POST changes a row (a confirmation, for example) instead of adding
    one."""

    perms_map = ModelPermissions.perms_map | {"POST": ["%(app_label)s.change_%(model_name)s"]}


class StopPermission(ChangePermission):
    """The same for what is stopped: one of its parties is enough."""

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return True
