from __future__ import annotations

from rest_framework.permissions import DjangoModelPermissions


class ModelPermissions(DjangoModelPermissions):
    """Asks for Django's permissions on the model, reading included, so that the API and the admin allow the same."""

    perms_map = DjangoModelPermissions.perms_map | {
        "GET": ["%(app_label)s.view_%(model_name)s"],
        "HEAD": ["%(app_label)s.view_%(model_name)s"],
        "OPTIONS": ["%(app_label)s.view_%(model_name)s"],
    }


class ChangePermission(ModelPermissions):
    """Asks for the permission to change where a POST changes a row (a cancellation, for example) instead of adding
    one."""

    perms_map = ModelPermissions.perms_map | {"POST": ["%(app_label)s.change_%(model_name)s"]}
