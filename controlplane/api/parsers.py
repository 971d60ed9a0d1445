"""The parser of JSON bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework import parsers
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError

from controlplane.documents.storable import unstorable


class JSONParser(parsers.JSONParser):
    """Refuses JSON that no database could store, naming the path, and JSON that is nested too deeply."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            data: Any = super().parse(stream, media_type, dict(parser_context or {}))
        except RecursionError:
            raise ParseError("JSON parse error - nested too deeply") from None
        errors: dict[str, list[ErrorDetail]] = {}
        for problem in unstorable(data):
            errors.setdefault(problem.path or "non_field_errors", []).append(ErrorDetail(problem.message, "unstorable"))
        if errors:
            raise ValidationError(errors)
        return data
