"""Another service: it knows the site's address and a token, and speaks HTTP. For the demo, tests and benchmarks."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any


class ServiceError(Exception):
    """The site refused, in its own words, or did not answer."""


class Service:
    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer's JSON; None where it has none, as after a DELETE. Raises ServiceError."""
        request = urllib.request.Request(  # noqa: S310  the address is our own site's
            path if path.startswith("http") else self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                return None if answer.status == HTTPStatus.NO_CONTENT else json.load(answer)
        except urllib.error.HTTPError as error:
            raise ServiceError(f"{method} {path} was answered {error.code}: {error.read().decode()[:2000]}") from None
        except OSError as error:
            raise ServiceError(f"{method} {path} got no answer: {error}") from None

    def submit(self, body: Any) -> Any:
        """Return the new execution. Raises ServiceError."""
        return self.call("POST", "/api/v1/executions/", body)

    def execution(self, execution: Any) -> Any:
        """Return an execution as it is now. Raises ServiceError."""
        return self.call("GET", f"/api/v1/executions/{execution['id']}/")
