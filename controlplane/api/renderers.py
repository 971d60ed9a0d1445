"""Forms of an answer besides JSON."""

from __future__ import annotations

from typing import Any

from rest_framework.renderers import BaseRenderer, JSONRenderer


class OtherForm(BaseRenderer):
    """Lets a service ask for an answer in another form, which the view makes itself; errors are JSON all the same."""

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return JSONRenderer().render(data)
