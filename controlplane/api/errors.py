"""The API's errors. All have the form of drf-standardized-errors, ``{type, errors: [...]}``."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from drf_standardized_errors.handler import ExceptionHandler
from rest_framework import serializers
from rest_framework.exceptions import APIException

log = logging.getLogger(__name__)


class Conflict(APIException):
    """The request is well formed, and the current state does not allow it."""

    status_code = 409
    default_code = "conflict"
    default_detail = "This is not possible in the current state."


class TooLarge(APIException):
    """The body is over DATA_UPLOAD_MAX_MEMORY_SIZE."""

    status_code = 413
    default_code = "too_large"
    default_detail = "The body is too large."


class Unavailable(APIException):
    """The database is locked or away. Nothing was done: each write is one transaction."""

    status_code = 503
    default_code = "unavailable"
    default_detail = "The database is busy or does not answer; nothing was done, try again."


class Handler(ExceptionHandler):
    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, RequestDataTooBig):
            return TooLarge()
        if isinstance(exc, OperationalError | InterfaceError):
            return Unavailable()
        return super().convert_known_exceptions(exc)


class ErrorEntry(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField(help_text="Says what is wrong and what would be right.")
    attr = serializers.CharField(
        allow_null=True, help_text="Path of the field that is wrong, such as spu_config.runtime_config.protocol."
    )


class ErrorBody(serializers.Serializer[Any]):
    """Body of every error. Only a validation error holds more than one entry."""

    type = serializers.ChoiceField(choices=["validation_error", "client_error", "server_error"])
    errors = ErrorEntry(many=True)  # type: ignore[assignment]
