"""Errors as the API gives them back: one form for all, drf-standardized-errors' ``{type, errors: [...]}``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect, JsonResponse
from django.middleware.common import CommonMiddleware
from django.template.loader import render_to_string
from django.views.defaults import page_not_found
from drf_standardized_errors.handler import ExceptionHandler
from rest_framework import serializers
from rest_framework.exceptions import APIException

log = logging.getLogger(__name__)


class Conflict(APIException):
    """The request is well formed and the state of things does not allow it."""

    status_code = 409
    default_code = "conflict"
    default_detail = "The state of things does not allow this."


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


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """An address that is none: as every other error for whoever speaks to the API, a page for the others."""
    if not request.path.startswith("/api/"):
        return page_not_found(request, exception)
    error = {
        "code": "not_found",
        "detail": "There is nothing at this address; /api/v1/ lists what there is.",
        "attr": None,
    }
    return JsonResponse({"type": "client_error", "errors": [error]}, status=404)


class SlashMiddleware(CommonMiddleware):
    """Leads to the address with its slash by a redirect that keeps the method: of a POST, 301 would make a GET."""

    class KeepsMethod(HttpResponsePermanentRedirect):
        status_code = 308

    response_redirect_class = KeepsMethod


class BusyMiddleware:
    """A page for people where the database is locked or away; the API has its own answer. Nothing was done: each write
    is one transaction."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, OperationalError | InterfaceError):
            log.warning("the database did not answer: %s", type(exception).__name__)
            # not through a template's context processors, which would ask the database
            return HttpResponse(render_to_string("503.html"), status=503, headers={"Retry-After": "5"})
        return None


class Handler(ExceptionHandler):
    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, RequestDataTooBig):
            return TooLarge()
        if isinstance(exc, OperationalError | InterfaceError):
            return Unavailable()
        return super().convert_known_exceptions(exc)


class ErrorEntry(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField(help_text="What is wrong; what would be right.")
    attr = serializers.CharField(
        allow_null=True, help_text="Path of what is wrong, such as spu_config.runtime_config.protocol."
    )


class ErrorBody(serializers.Serializer[Any]):
    """Body of every error. Only a validation error holds more than one entry."""

    type = serializers.ChoiceField(choices=["validation_error", "client_error", "server_error"])
    errors = ErrorEntry(many=True)  # type: ignore[assignment]
