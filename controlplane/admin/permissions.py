"""Who may do what on a page."""

from __future__ import annotations

from django.http import HttpRequest

from controlplane.access import Access


def may(request: HttpRequest, permission: str) -> bool:
    """Return whether the user of the request has a permission, such as ``executions.add_execution``."""
    return Access.of(request).may(permission)
