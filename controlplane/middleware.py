"""The project's own middleware, and its answer where there is no page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponsePermanentRedirect,
    HttpResponseRedirect,
)
from django.middleware.common import CommonMiddleware
from django.middleware.http import ConditionalGetMiddleware
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.cache import patch_vary_headers
from django.views.defaults import page_not_found

from controlplane.api.errors import answer
from controlplane.audit.record import record_refusal
from controlplane.environment import environment
from controlplane.people.second_factor import NEEDED, factor_of, is_required
from controlplane.sign_in import refusal, seconds_to_wait

log = logging.getLogger(__name__)


class SlashMiddleware(CommonMiddleware):
    """Redirects to the address with a slash and keeps the method: a 301 would turn a POST into a GET.

    Looks at the host's name, too (ALLOWED_HOSTS), but for what is asked of this process's health: whoever asks knows
    its address alone, and the answer has no names in it.
    """

    OF_HEALTH = ("/healthz", "/readyz")

    class KeepsMethod(HttpResponsePermanentRedirect):
        status_code = 308

    response_redirect_class = KeepsMethod

    def process_request(self, request: HttpRequest) -> Any:
        return None if request.path_info in self.OF_HEALTH else super().process_request(request)


class BusyMiddleware:
    """Answers with a page where the database is locked or away. The API has its own answer. Nothing was done: each
    write is one transaction."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, OperationalError | InterfaceError):
            log.warning("the database did not answer: %s", type(exception).__name__)
            # without context processors, which would use the database
            return HttpResponse(render_to_string("503.html"), status=503, headers={"Retry-After": "5"})
        return None


class ContentPolicyMiddleware:
    """Says what a page may load and run: what this site serves, and no script that stands in the page itself.

    The same policy for each kind of page: no template needs a nonce. Alpine, which unfold is made with, compiles the
    attributes of the admin's pages, and so needs unsafe-eval; they come from templates, which escape what is shown.
    """

    _PAGE = (
        "default-src 'self'; script-src 'self'{eval}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    ADMIN, OTHER = _PAGE.format(eval=" 'unsafe-eval'"), _PAGE.format(eval="")
    #: Of what is no page.
    DATA = "default-src 'none'; frame-ancestors 'none'"

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        is_page = response.get("Content-Type", "").startswith("text/html")
        page = self.ADMIN if request.path.startswith(reverse("admin:index")) else self.OTHER
        response.headers.setdefault("Content-Security-Policy", page if is_page else self.DATA)
        return response


class UnchangedMiddleware(ConditionalGetMiddleware):
    """Answers 304 without a body where a service has just what it asks for (``If-None-Match``). For the API alone: no
    page is the same twice, as each has tokens of its own."""

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        return super().process_response(request, response) if _is_of_api(request) else response


class AuditMiddleware:
    """Notes what was refused to somebody."""

    REFUSED = (403, 429)

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code in self.REFUSED:
            record_refusal(f"{request.method} {request.path}", details=str(response.status_code))
        return response


class LanguageMiddleware:
    """Has pages speak the language of the browser. The API speaks English, whoever asks: its texts are searched for,
    and stand in other systems' logs."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if _is_of_api(request):
            return self.get_response(request)
        with translation.override(translation.get_language_from_request(request)):
            response = self.get_response(request)
        patch_vary_headers(response, ["Accept-Language"])
        return response


class AccountMiddleware:
    """Has the console show times in the zone of its user, and speak the language that the user chose. The API tells
    UTC, whoever asks."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path.startswith(reverse("admin:index")):
            return self.get_response(request)
        language, zone = self._settings_of(request)
        with timezone.override(zone), translation.override(language or translation.get_language()):
            response = self.get_response(request)
            response.headers.setdefault("Content-Language", translation.get_language() or settings.LANGUAGE_CODE)
            return response

    @staticmethod
    def _settings_of(request: HttpRequest) -> tuple[str, ZoneInfo | None]:
        try:
            account = getattr(request.user, "account", None)
            return getattr(account, "language", ""), _zone_of(getattr(account, "time_zone", ""))
        except (OperationalError, InterfaceError):  # the view is about to meet it, too, and BusyMiddleware then answers
            return "", None


def _is_of_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def _zone_of(name: str) -> ZoneInfo | None:
    """Return a time zone; None if none is named, or this host does not know the one that another host knew."""
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, KeyError, OSError):
        return None


class SecondFactorMiddleware:
    """Leads users who need a second factor and have none to the page that sets it up, where the settings ask for it.
    What a token does needs none: whoever made it has signed in."""

    #: What such a user may use meanwhile.
    OPEN = ("second_factor", "admin:logout", "admin:jsi18n", "admin:login", "second_step")

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponse | None:
        try:
            if not environment.require_second_factor or not self._is_wanting(request.user):
                return None
        except (OperationalError, InterfaceError):  # the view is about to meet it, too
            return None
        if not request.path.startswith(reverse("admin:index")):
            return answer("forbidden", 403, "permission_denied", NEEDED)
        is_open = request.path in [reverse(name) for name in self.OPEN]
        return None if is_open else HttpResponseRedirect(reverse("second_factor"))

    @staticmethod
    def _is_wanting(user: Any) -> bool:
        return bool(user.is_authenticated and factor_of(user) is None and is_required(user))


class SignInMiddleware:
    """Answers with a page where somebody has tried to sign in too often. The API has its own answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        wait = seconds_to_wait(request)
        return refusal(wait) if wait else response


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return the answer for an unknown address: the API's form of an error below /api/, otherwise a page."""
    if not _is_of_api(request):
        return page_not_found(request, exception)
    return answer("not-found", 404, "not_found", "There is nothing at this address; /api/v1/ lists what there is.")
