"""The roles that ship, as groups: sets of permissions to give to users. docs/access.md describes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction
from django.utils.translation import gettext_noop

from controlplane.models import AuditEntry, PartyGrant

_COMPOSED = ("task", "pipeline", "schedule", "clusterconfig", "spuconfig", "heuconfig", "deviceconfig")
_VIEW = tuple(f"controlplane.view_{model}" for model in (*_COMPOSED, "party", "dataset", "site"))

VIEWER, OPERATOR = gettext_noop("Viewer"), gettext_noop("Operator")
STEWARD, ADMINISTRATOR = gettext_noop("Party steward"), gettext_noop("Administrator")

_VIEWER = (*_VIEW, "executions.view_execution")
#: Role to its permissions.
ROLES: dict[str, tuple[str, ...]] = {
    VIEWER: _VIEWER,
    OPERATOR: (
        *_VIEWER,
        *(f"controlplane.{verb}_{model}" for verb in ("add", "change", "delete") for model in _COMPOSED),
        "executions.add_execution",
        "executions.change_execution",
    ),
    STEWARD: (
        *_VIEWER,
        "controlplane.change_party",
        *(f"controlplane.{verb}_dataset" for verb in ("add", "change", "delete")),
        "executions.change_execution",
    ),
    #: Everything of these apps, for all parties.
    ADMINISTRATOR: ("controlplane", "executions", "auth", "knox"),
}


def make_roles(**_: Any) -> None:
    """Make the groups that are missing; groups of these names that are there stay as they are. A receiver of
    ``post_migrate``: Django makes permissions there, after all migrations."""
    tables = connection.introspection.table_names()
    if not {PartyGrant._meta.db_table, AuditEntry._meta.db_table} <= {*tables}:  # migrated to an older version
        return
    with transaction.atomic():
        for role, permissions in ROLES.items():
            group, is_new = Group.objects.get_or_create(name=role)
            if not is_new:
                continue
            group.permissions.set(_found(permissions))
            if role == ADMINISTRATOR:
                PartyGrant.objects.create(group=group, all_parties=True)


def _found(permissions: tuple[str, ...]) -> Iterator[Permission]:
    """Yield the rows of permissions, or of all permissions of an app."""
    for permission in Permission.objects.select_related("content_type").order_by("pk"):
        app = permission.content_type.app_label
        if app in permissions or f"{app}.{permission.codename}" in permissions:
            yield permission
