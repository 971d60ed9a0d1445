"""The admin's suggestions for a field that names another object."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest


class Autocomplete(AutocompleteJsonView):
    """Django's, which answers with a 500 where the address names something that is no field of a form, and where
    somebody looks for what PostgreSQL cannot store."""

    def process_request(self, request: HttpRequest) -> Any:
        term, model_admin, source_field, to_field_name = super().process_request(request)
        # Relations from the other side, and those to any model
        if not source_field.concrete or source_field.remote_field.model is None:
            raise PermissionDenied
        return term.replace("\0", ""), model_admin, source_field, to_field_name
