"""Who may do what on a page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def may(request: HttpRequest, permission: str) -> bool:
    """Return whether the user of the request has a permission, such as ``executions.add_execution``."""
    user: Any = request.user
    return bool(user.has_perm(permission))
