"""Requests, and when to send them again: without any input or output, so that both clients have the same.

What a client does is a *flow*: a generator that yields the requests to send and the pauses to make, is sent the
answers, and returns what it found.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from secretflow_controlplane_client.errors import UNEXPECTED, UNREACHABLE, ControlPlaneError, described, problem_in

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

#: What begins every address of the API.
ROOT = "/api/v1/"
#: Statuses that another try may not get: the control plane is busy, or restarts behind its proxy.
PASSING = frozenset({429, 502, 503, 504})
#: Longest pause between two tries, unless the control plane asks for a longer one, in seconds.
LONGEST_PAUSE = 8.0

Parameters = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Retry:
    """How often, and for how long, a request is sent again. ``attempts=1`` sends it once."""

    attempts: int = 6
    #: No pause goes beyond so many seconds after the first try.
    seconds: float = 60.0

    def pause(self, attempt: int, elapsed: float, asked: float | None) -> float | None:
        """Return the seconds until the next try; None if there is none."""
        wait = asked if asked is not None else min(0.25 * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.5, 1)
        return wait if attempt < self.attempts and elapsed + wait <= self.seconds else None


@dataclass(frozen=True)
class Call:
    """A request."""

    method: str
    #: Below ``ROOT``, or a whole path, or an address that the control plane has answered.
    path: str
    params: Parameters = ()
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Seconds that the control plane may take longer than usual.
    longer: float = 0.0

    @property
    def address(self) -> str:
        """Return the path below the control plane's address."""
        return self.path if self.path.startswith(("/", "http://", "https://")) else ROOT + self.path

    def __str__(self) -> str:
        return f"{self.method} {self.address}"


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Answer:
    status: int
    #: By names in small letters.
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Return the body; None if there is none. Raises ControlPlaneError if it is something else than JSON."""
        if not self.content:
            return None
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            kind = self.headers.get("content-type", "no content type")
            raise ControlPlaneError(
                UNEXPECTED, f"the answer is no JSON ({kind}); is this the control plane's address?", self.status
            ) from None


@dataclass(frozen=True)
class NoAnswer:
    why: str


Flow = Generator[Call | Pause, Any, T]


def write(method: str, path: str, body: Any = None, params: Parameters = (), etag: str = "", key: str = "") -> Call:
    """Return a request that changes something. It is done once, however often it is sent."""
    headers = {"Idempotency-Key": key or str(uuid.uuid4())} | ({"If-Match": etag} if etag else {})
    return Call(method, path, params, {} if body is None and method == "POST" else body, headers)


def send(call: Call, retry: Retry) -> Flow[Answer]:
    """Send a request, again if it may help, and return the answer. Raises ControlPlaneError."""
    began = time.monotonic()
    attempt = 1
    while True:
        answer: Answer | NoAnswer = yield call
        error = error_of(call, answer)
        if error is None:
            assert isinstance(answer, Answer)
            return answer
        pause = retry.pause(attempt, time.monotonic() - began, error.retry_after) if may_pass(error) else None
        if pause is None:
            raise error
        yield Pause(pause)
        attempt += 1


def may_pass(error: ControlPlaneError) -> bool:
    """Return whether another try may help."""
    return error.kind in (UNREACHABLE, "in-progress") or error.status in PASSING


def error_of(call: Call, answer: Answer | NoAnswer) -> ControlPlaneError | None:
    """Return the error that an answer is; None if it is none."""
    if isinstance(answer, NoAnswer):
        return ControlPlaneError(UNREACHABLE, f"The control plane does not answer: {answer.why}", request=str(call))
    if 200 <= answer.status < 300 or answer.status == HTTPStatus.NOT_MODIFIED:
        return None
    after = seconds_until(answer.headers.get("retry-after", ""))
    if problem := problem_in(answer.content):
        text = problem.detail or problem.title
        return ControlPlaneError(problem.kind, text, answer.status, problem.errors, str(call), after)
    try:
        words = f"{answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        words = str(answer.status)
    where = answer.headers.get("location", "")
    text = f"Something else than the control plane's API has answered: {words}"
    text += f", it leads to {where}" if where else ""
    return ControlPlaneError(UNEXPECTED, f"{text}; check the address.", answer.status, (), str(call), after)


def seconds_until(text: str) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, as a number or a date; None if it says nothing."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
    return max((at - datetime.now(timezone.utc)).total_seconds(), 0.0)


def parsed(model: type[M], data: Any) -> M:
    """Return what was answered as a model. Raises ControlPlaneError."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        text = f"The answer is not what the control plane's API answers: {described(error)}"
        raise ControlPlaneError(UNEXPECTED, text) from None
