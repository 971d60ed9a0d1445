"""The id of the request that is being answered: in its answer, in each line of the log, in what it leaves behind."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse

log = logging.getLogger("controlplane.requests")

HEADER = "X-Request-ID"
#: Longest id that is taken from a sender.
LONGEST = 64
_VALID = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST}}}")
#: What is asked all the time, and says nothing.
_UNLOGGED = ("/static/", "/healthz", "/readyz", "/metrics")
_current: ContextVar[str] = ContextVar("request_id", default="")


def current() -> str:
    """Return the id of the request that is being answered; empty if there is none, as in the coordinator."""
    return _current.get()


class RequestIdMiddleware:
    """Gives each request an id, that of its sender if it has one, and logs how it was answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get(HEADER, "")
        found = given if _VALID.fullmatch(given) else uuid.uuid4().hex
        token = _current.set(found)
        began = time.monotonic()
        try:
            response = self.get_response(request)
            response.headers[HEADER] = found
            if not request.path.startswith(_UNLOGGED):
                self._log(request, response, time.monotonic() - began)
        finally:
            _current.reset(token)
        return response

    @staticmethod
    def _log(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
        """Log a line. Not what stands behind the question mark: it may hold names that the log is not to have."""
        user = getattr(request, "user", None)
        told = {
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "milliseconds": round(1000 * seconds, 1),
            "user": user.get_username() if user is not None and user.is_authenticated else "",
        }
        log.info("%s %s %s", request.method, request.path, response.status_code, extra=told)


class Line(logging.Formatter):
    """A line for people, with the request's id at its end if there is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        return f"{text} [{found}]" if (found := current()) else text


def _with_request_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if found := current():
        event["request_id"] = found
    return event


def as_json() -> logging.Formatter:
    """Return a formatter of lines for machines: one JSON object each."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(["method", "path", "status", "milliseconds", "user"]),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _with_request_id,
            structlog.processors.format_exc_info,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )
