"""ETags of what is registered, and writes that are for one version only (RFC 9110, sections 8.8.3 and 13.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from django.db import transaction
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.errors import Stale

_TAG = re.compile(r'"(\d{1,10})(?:-[0-9a-f]{16})?"')


def tagged(response: Response, version: int) -> Response:
    """Add the ETag of an answer that shows a version of something.

    The version alone would not do: who uses a configuration, or what a party has reported of a table, changes without
    it, and is in the answer. A condition of a write looks at the version alone.
    """
    response["ETag"] = f'"{version}-{sha256(JSONRenderer().render(response.data)).hexdigest()[:16]}"'
    return response


def check_version(request: Request, row: Any) -> None:
    """Compare ``If-Match`` with the version of a row. Raises Stale if it names no version, or others alone."""
    wanted = request.headers.get("If-Match")
    if wanted is None or wanted.strip() == "*":
        return
    if str(row.version) in [match.group(1) for part in wanted.split(",") if (match := _TAG.fullmatch(part.strip()))]:
        return
    raise Stale(f"It has version {row.version} now, and If-Match names another; read it again, then change that.")


class TaggedByVersion:
    """Part of a view of something that is registered: tells its version as ETag, and takes ``If-Match``."""

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        view: Any = self
        row = view.get_object()
        return tagged(Response(view.get_serializer(row).data), row.version)

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with self._of_its_version(request):
            response = super().update(request, *args, **kwargs)  # type: ignore[misc]
        return tagged(response, response.data["version"])

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with self._of_its_version(request):
            return super().destroy(request, *args, **kwargs)  # type: ignore[misc]

    @contextmanager
    def _of_its_version(self, request: Request) -> Iterator[None]:
        """Raise Stale unless the row has the version that ``If-Match`` names, if there is one. Until the end nobody
        else changes it."""
        if "If-Match" not in request.headers:
            yield
            return
        with transaction.atomic():
            row: Any = self.get_object()  # type: ignore[attr-defined]
            locked = type(row)._base_manager.select_for_update(no_key=True).filter(pk=row.pk).first()
            check_version(request, locked or row)
            yield
