"""Server-sent events: reading them, and going on after a broken connection."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError

from secretflow_controlplane_client.errors import INPUT, UNEXPECTED, UNREACHABLE, ControlPlaneError, described
from secretflow_controlplane_client.flows import parameters
from secretflow_controlplane_client.models import ENDED, StateTold, Told
from secretflow_controlplane_client.protocol import Answer, Call, Retry, error_of, may_pass

#: Seconds without a sign of life after which a connection counts as broken: there is one every 15 seconds.
SILENCE = 45.0
#: Longest pause before another try, in seconds.
LONGEST_PAUSE = 10.0
#: Things that are remembered, so that none is told twice.
MOST_REMEMBERED = 10_000
#: Where the first thing that happened to an execution stands.
BEGINNING = "0.0"
MEDIA_TYPE = "text/event-stream"
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a CR at the end may be half of a CRLF
_TOLD: TypeAdapter[Told] = TypeAdapter(Told)


class Message:
    """One message of a stream, while it is read."""

    def __init__(self) -> None:
        self.event, self.data = "", list[str]()
        self.id: str | None = None


class Watching:
    """What is asked for, and how far it was told."""

    def __init__(self, execution: str, filters: dict[str, Any], last_event_id: str, retry: Retry) -> None:
        """``execution``: empty for all."""
        if execution and any(filters.values()):
            raise ControlPlaneError(INPUT, "The events of one execution take no filter; ask for those of all.")
        self.execution, self._params, self._retry = execution, parameters(filters), retry
        self.position = last_event_id or (BEGINNING if execution else "")
        self.is_over = False
        self._told: dict[str, None] = {}
        self._rest, self._message = b"", Message()
        self._pause, self._failures, self._failing_since = 1.0, 0, 0.0

    def call(self) -> Call:
        """Return the request for what is still to be told, and forget half a message."""
        self._rest, self._message = b"", Message()
        headers = {"Accept": MEDIA_TYPE} | ({"Last-Event-ID": self.position} if self.position else {})
        path = f"executions/{self.execution}/events/" if self.execution else "events/"
        return Call("GET", path, self._params, headers=headers)

    def check(self, answer: Answer) -> None:
        """Raise ControlPlaneError for an answer that is no stream."""
        if error := error_of(self.call(), answer):
            raise error
        kind = answer.headers.get("content-type", "")
        if not kind.startswith(MEDIA_TYPE):
            raise ControlPlaneError(UNEXPECTED, f"The answer is no stream ({kind}); check the address.", answer.status)

    def read(self, chunk: bytes) -> Iterator[Told]:
        """Yield what a piece of the stream tells."""
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        for line in lines:
            told = self._take(line.decode(errors="replace"))
            if told is None or self._was_told(told):
                continue
            self._failures = 0
            self.is_over = bool(self.execution) and isinstance(told, StateTold) and told.status in ENDED
            yield told
            if self.is_over:
                return

    def pause(self, error: ControlPlaneError | None) -> float:
        """Return the seconds until the next try. Raises the error if another try cannot help, or too many have
        failed."""
        self._failures += 1
        if self._failures == 1:
            self._failing_since = time.monotonic()
        error = error or ControlPlaneError(UNREACHABLE, "The stream of events ends again and again.")
        seconds = min(self._pause * 2 ** (self._failures - 1), LONGEST_PAUSE) * random.uniform(0.5, 1)
        seconds = error.retry_after if error.retry_after is not None else seconds
        late = time.monotonic() + seconds - self._failing_since > self._retry.seconds
        if not may_pass(error) or late or self._failures >= self._retry.attempts:
            raise error
        return seconds

    def _take(self, line: str) -> Told | None:
        """Take a line; return what is told if it ends a message."""
        message = self._message
        if not line:
            self._message = Message()
            # Not before: of a message that breaks off, nothing was told
            self.position = message.id if message.id is not None else self.position
            return _read(message, self.position) if message.data else None
        name, _, value = line.partition(":")
        if not name:  # a sign of life
            self._failures = 0
        value = value.removeprefix(" ")
        if name == "id" and "\0" not in value:
            message.id = value
        elif name == "event":
            message.event = value
        elif name == "data":
            message.data.append(value)
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 7:
            self._pause = int(value) / 1000
        return None

    def _was_told(self, told: Told) -> bool:
        key = getattr(told, "id", None)
        if key is None or key not in self._told:
            if key is not None:
                self._told[key] = None
                if len(self._told) > MOST_REMEMBERED:
                    del self._told[next(iter(self._told))]
            return False
        return True


def _read(message: Message, position: str) -> Told | None:
    """Return what a message tells; None for a kind that a newer control plane may have."""
    if message.event not in ("state", "event", "gap"):
        return None
    try:
        data = json.loads("\n".join(message.data))
        return _TOLD.validate_python({**data, "kind": message.event, "position": position})
    except ValidationError as error:
        raise ControlPlaneError(UNEXPECTED, f"The stream tells what is no event: {described(error)}") from None
    except (ValueError, TypeError):
        raise ControlPlaneError(UNEXPECTED, "The stream tells what is no JSON.") from None
