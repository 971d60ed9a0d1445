"""A client of the API, as another service would have: it has the site's address and a token. For the demo, tests and
benchmarks."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any


class ServiceError(Exception):
    """The site refused a request (the message is the site's), or did not answer."""


class Service:
    def __init__(self, url: str, token: str, timeout: float = 20) -> None:
        """``timeout``: seconds in which the site has to answer."""
        self.url, self.token, self.timeout = url, token, timeout

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the answer's JSON; None if it has none, as after a DELETE. Raises ServiceError."""
        request = urllib.request.Request(  # noqa: S310  the address is our own site's
            path if path.startswith("http") else self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310
                return None if answer.status == HTTPStatus.NO_CONTENT else json.load(answer)
        except urllib.error.HTTPError as error:
            raise ServiceError(f"{method} {path} was answered {error.code}: {error.read().decode()[:2000]}") from None
        except OSError as error:
            raise ServiceError(f"{method} {path} got no answer: {error}") from None

    def submit(self, body: Any) -> Any:
        """Submit an execution and return it. Raises ServiceError."""
        return self.call("POST", "/api/v1/executions/", body)

    def execution(self, execution: Any) -> Any:
        """Return an execution. Raises ServiceError."""
        return self.call("GET", f"/api/v1/executions/{execution['id']}/")
