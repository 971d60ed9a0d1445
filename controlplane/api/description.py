"""The description of the REST API, which everybody may read."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class DescriptionView(SpectacularAPIView):
    """OpenAPI 3.1 description of this API, as YAML or JSON by the ``Accept`` header."""

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        renderer = request.accepted_renderer
        return HttpResponse(
            _described(renderer),
            content_type=f"{renderer.media_type}; charset=utf-8",
            headers={"Content-Disposition": f'inline; filename="secretflow-control-plane.{renderer.format}"'},
        )


#: By media type: the same as long as the process lives. To make it takes most of a second of a core, which nobody may
#: cost the site again and again.
_made: dict[str, str | bytes] = {}


def _described(renderer: BaseRenderer) -> str | bytes:
    if renderer.media_type not in _made:
        schema = SchemaGenerator().get_schema(public=True)
        _made[renderer.media_type] = renderer.render(schema, renderer_context={})
    return _made[renderer.media_type]
