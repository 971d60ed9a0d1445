"""What both clients know of the control plane: its address, the token and the timeouts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel

from secretflow_controlplane_client.errors import INPUT, ControlPlaneError
from secretflow_controlplane_client.flows import text_of
from secretflow_controlplane_client.protocol import Answer, Call, NoAnswer, Retry
from secretflow_controlplane_client.stream import SILENCE

VERSION = "0.1.0"


class Connection:
    """Base of the clients."""

    def __init__(self, url: str, token: str, *, timeout: float = 20.0, retry: Retry | None = None) -> None:
        """``url``: the control plane's address, without ``/api/v1/``. ``timeout``: seconds in which it has to
        answer. Raises ControlPlaneError if the address or the token cannot be right."""
        self.url = checked_url(url)
        self._headers = {
            "Authorization": f"Token {checked_token(token)}",
            "Accept": "application/json",
            "User-Agent": f"secretflow-controlplane-client/{VERSION}",
        }
        self.timeout, self.retrying = timeout, retry or Retry()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"  # the token is told nowhere

    def request(self, call: Call) -> dict[str, Any]:
        """Return a request as httpx takes it. Raises ControlPlaneError for a body that JSON cannot hold."""
        headers = self._headers | dict(call.headers)
        content = None
        if call.body is not None:
            headers["Content-Type"] = "application/json"
            content = encoded(call.body)
        address, params = call.address, list(call.params)
        if not address.startswith("/"):  # as the control plane sees itself; the token goes to no other host
            parts = urlsplit(address)
            address = parts.path + (f"?{parts.query}" if parts.query else "")
        return {
            "method": call.method,
            "url": self.url + address,
            # An empty mapping would take away what stands in the address
            "params": params or None,
            "headers": headers,
            "content": content,
            "timeout": httpx.Timeout(self.timeout, read=self.timeout + call.longer),
        }

    def stream_request(self, call: Call) -> dict[str, Any]:
        """Return a request for a stream as httpx takes it."""
        return {**self.request(call), "timeout": httpx.Timeout(self.timeout, read=max(self.timeout, SILENCE))}


def checked_url(url: str) -> str:
    """Return the control plane's address without a slash at its end. Raises ControlPlaneError."""
    text = url.strip().rstrip("/").removesuffix("/api/v1")
    try:
        parts = urlsplit(text)
        httpx.URL(text)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        is_right, parts = False, urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise ControlPlaneError(INPUT, "The address has a password in it; give a token instead.")
    if not is_right or parts.query or parts.fragment:
        raise ControlPlaneError(INPUT, "The address should be like https://control.example")
    return text


def checked_token(token: str) -> str:
    """Return a token that a header can hold. Raises ControlPlaneError, which does not tell it."""
    text = token.strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        why = "has characters that no token has" if text else "is empty"
        raise ControlPlaneError(INPUT, f"The token {why}; copy it again, or ask an administrator for one.")
    return text


def encoded(body: Any) -> bytes:
    """Return a body as JSON. Raises ControlPlaneError."""
    try:
        return json.dumps(body, default=_plain, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ControlPlaneError(INPUT, f"JSON cannot hold what is to be sent: {error}") from None


def answer_of(response: httpx.Response, content: bytes) -> Answer:
    """Return an answer of httpx."""
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, content)


def no_answer(error: httpx.RequestError) -> NoAnswer:
    """Return why there was no answer, in a line."""
    return NoAnswer(str(error).strip().partition("\n")[0] or type(error).__name__)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, datetime):
        return text_of(value)
    raise TypeError(f"{type(value).__name__} is neither text, number, list nor mapping")
