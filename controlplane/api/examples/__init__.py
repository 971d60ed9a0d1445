"""The examples of the API's description: requests that a prepared site accepts, and what it answered to them.

``requests.json`` has bodies by operation and title. ``answers.json`` was recorded by
``RECORD=1 pytest tests/controlplane/test_api_examples.py``, which also sends each request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from controlplane.examples import examples, request_of

#: Of every stream: it cannot be recorded.
STREAM = """id: 4711.90210
event: state
data: {"id": "state-4711", "execution": "6a0e3c1b-93b5-4d6f-9a55-6c1f0b7a2d11", "status": "SUCCESS", \
"from_status": "RUNNING", "why": "", "at": "2026-12-01T08:00:00Z"}

"""
HERE = Path(__file__).parent
#: Operations that take a whole set of documents, too.
_WITH_DOCUMENTS = ("executions_create", "executions_dry_run", "preflights_create")


@cache
def _read(name: str) -> dict[str, Any]:
    path = HERE / name
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def requests_of(operation: str) -> Mapping[str, Any]:
    """Return the bodies of an operation's examples by their titles."""
    found = dict(_read("requests.json").get(operation, {}))
    if operation in _WITH_DOCUMENTS:
        found["documents of the demo"] = request_of(examples()["psi"])
    return found


def answer_of(operation: str, status: int, media_type: str) -> Any:
    """Return the example of an answer; None if there is none."""
    if media_type == "text/event-stream":
        return STREAM
    return _read("answers.json").get(f"{operation} {status} {media_type}")
