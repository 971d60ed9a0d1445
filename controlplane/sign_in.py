"""Signing in with a password: how often somebody may try it, by their address.

A password costs 1.4 s of CPU to check, so a try is counted before that, and refused before that. Tries are counted by
user and address: from elsewhere nobody can lock a user out. And by address alone: one address cannot try one password
with all names.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from controlplane.environment import environment
from controlplane.models.sign_in import SignInTries

#: Most tries within ``controlplane.models.sign_in.WINDOW`` that did not succeed.
AS_ONE_USER, FROM_ONE_ADDRESS = 5, 50
#: Longest name of a user.
LONGEST_NAME = 150


def address_of(request: Any) -> str:
    """Return the address from which a request came. Behind proxies it is the one that the outermost of ours has seen;
    what stands before it in the header may be anything."""
    remote = str(request.META.get("REMOTE_ADDR") or "")
    proxies = environment.proxy_count
    passed = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    found = passed[-proxies] if 0 < proxies <= len(passed) else remote
    try:
        return str(ip_address(found))
    except ValueError:
        return remote


class Backend(ModelBackend):
    """Django's check of names and passwords, which refuses to check too many."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        name = username if username is not None else kwargs.get("username")
        if request is None or name is None or len(name) > LONGEST_NAME:  # no user has such a name
            return None if request else super().authenticate(request, username, password, **kwargs)
        address = network_of(address_of(request))
        as_user = f"{address} {name}"
        wait = SignInTries.count(as_user, AS_ONE_USER) or SignInTries.count(address, FROM_ONE_ADDRESS)
        if wait:
            request.seconds_to_wait = ceil(wait)  # type: ignore[attr-defined]
            raise PermissionDenied("There were too many tries to sign in.")
        user = super().authenticate(request, username, password, **kwargs)
        if user is not None:
            SignInTries.forget(as_user)
            SignInTries.uncount(address)
        return user

    def get_user(self, user_id: Any) -> Any:
        """Return the user of a session with the account, which each page asks for, in one query."""
        user = User.objects.select_related("account", "second_factor").filter(pk=user_id).first()
        return user if user is not None and self.user_can_authenticate(user) else None


def network_of(address: str) -> str:
    """Return the address; for IPv6 its network, as one host has all addresses of a /64."""
    try:
        found = ip_address(address)
    except ValueError:
        return address[:100]
    return f"{IPv6Address(int(found) >> 64 << 64)}/64" if isinstance(found, IPv6Address) else address


def seconds_to_wait(request: Any) -> int:
    """Return for how long a request was refused to sign in; 0 if it was not."""
    return int(getattr(request, "seconds_to_wait", 0))


def refusal(seconds: int) -> HttpResponse:
    """Return the page for who has to wait before signing in."""
    page = render_to_string("429.html", {"minutes": ceil(seconds / 60)})
    return HttpResponse(page, status=429, headers={"Retry-After": str(seconds)})
