"""A limit of how much one sender may ask of the API, so that none takes it from the others."""

from __future__ import annotations

from math import ceil
from typing import Any, NoReturn

from django.core.cache import caches
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from controlplane.environment import environment


class EachSender(SimpleRateThrottle):
    """Counts the requests of each token, or of each user of the console, in this process alone.

    Who signs in with a password, or says not who he is, is dealt with there.
    """

    scope = "sender"
    cache = caches["requests"]

    def get_rate(self) -> str | None:
        return f"{environment.requests_per_minute}/min" if environment.requests_per_minute else None

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        if request.user.pk is None:
            return None
        token = getattr(request.auth, "pk", None)
        return f"token-{token}" if token else f"user-{request.user.pk}"

    def throttle_failure(self) -> NoReturn:
        """Raise Throttled, which says what the limit is."""
        most = environment.requests_per_minute
        text = f"You may send {most:,} requests a minute; wait with ?wait= instead."
        raise Throttled(ceil(self.wait() or 1), text)
