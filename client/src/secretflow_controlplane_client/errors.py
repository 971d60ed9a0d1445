"""What goes wrong: one exception, with what the control plane said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from secretflow_controlplane_client.models import FieldProblem, Problem

#: Kinds of this package's own, beside those that the control plane answers (docs/services.md): there was no answer;
#: the answer is none of the control plane's API; the time limit has passed; the input is wrong and was not sent;
#: the execution has ended otherwise than in success.
UNREACHABLE, UNEXPECTED, TIME_LIMIT, INPUT, NOT_SUCCESSFUL = (
    "unreachable",
    "unexpected",
    "time-limit",
    "input",
    "not-successful",
)
#: Problems that are named in an error's text.
MOST_NAMED = 20


class ControlPlaneError(Exception):
    """A request was refused or not answered.

    Decide by ``kind``, which stays the same. ``errors`` has every problem of the request at its path. ``status`` is
    None where there was no answer.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        status: int | None = None,
        errors: Sequence[FieldProblem] = (),
        request: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.status, self.errors = kind, detail, status, list(errors)
        #: Method and address of the request; empty if none was sent.
        self.request = request
        #: Seconds after which another try may succeed, as far as the control plane has said.
        self.retry_after = retry_after

    @property
    def text(self) -> str:
        """Return what is wrong, for people: every problem with its path."""
        named = [f"{problem.path}: {problem.detail}" if problem.path else problem.detail for problem in self.errors]
        if len(named) < 2:
            return named[0] if named else self.detail
        more = [f"and {len(named) - MOST_NAMED} more"] if len(named) > MOST_NAMED else []
        return "\n".join([f"There are {len(named)} problems:", *(f"- {line}" for line in named[:MOST_NAMED]), *more])

    def __str__(self) -> str:
        about = ", ".join(filter(None, [" ".join(filter(None, [str(self.status or ""), self.kind])), self.request]))
        return f"{self.text} ({about})"


def problem_in(content: bytes) -> Problem | None:
    """Return the problem details that an answer's body holds; None if it holds none."""
    try:
        return Problem.model_validate(json.loads(content))
    except (ValueError, RecursionError):  # pydantic's error is a ValueError
        return None


def described(error: ValidationError) -> str:
    """Return the first thing that pydantic found, in a line."""
    first: Any = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
