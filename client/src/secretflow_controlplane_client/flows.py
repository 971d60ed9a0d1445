"""What both clients do, as flows (``protocol``)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from secretflow_controlplane_client.errors import INPUT, NOT_SUCCESSFUL, TIME_LIMIT, UNEXPECTED, ControlPlaneError
from secretflow_controlplane_client.models import SUCCESS, DryRun, Execution, Resource, Result
from secretflow_controlplane_client.protocol import Answer, Call, Flow, Parameters, Pause, Retry, parsed, send, write

#: Seconds for which one request waits for the end of an execution.
LONG_POLL = 20.0
#: Pauses between two looks where the control plane cannot let a request wait, in seconds.
FIRST_LOOK, LAST_LOOK = 0.2, 5.0
#: Rows of a page.
PAGE_SIZE = "200"


def key_of(execution: Execution | str) -> str:
    """Return the id of an execution, as a part of an address."""
    key = execution.id if isinstance(execution, Execution) else str(execution).strip()
    if not key:
        raise ControlPlaneError(INPUT, "Name an execution by its id.")
    return quote(key, safe="")


def text_of(value: Any) -> str:
    """Return a value as the API takes it in an address."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.astimezone(timezone.utc)).isoformat()
    return str(value)


def parameters(filters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return filters as parameters of an address. A list gives one several times, labels may be a mapping, and None
    leaves one out."""
    found: list[tuple[str, str]] = []
    for name, value in filters.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            value = [f"{key}:{one}" for key, one in value.items()]
        several = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
        found += [(name, text_of(one)) for one in several]
    return found


def submission(
    task: str | int | None,
    documents: Mapping[str, Any] | None,
    overrides: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the body of a submission. Options that are None are left out."""
    body = {name: value for name, value in options.items() if value is not None} | dict(documents or {})
    body |= {"task": task} if task is not None else {}
    return body | ({"overrides": dict(overrides)} if overrides else {})


def call(request: Call, retry: Retry) -> Flow[Any]:
    """Send a request and return the answer's JSON; None if it has none."""
    answer = yield from send(request, retry)
    return answer.json()


def execution_from(request: Call, retry: Retry) -> Flow[Execution]:
    """Send a request that is answered with an execution."""
    return parsed(Execution, (yield from call(request, retry)))


def dry_run(body: Mapping[str, Any], retry: Retry) -> Flow[DryRun]:
    """Ask what would happen."""
    return parsed(DryRun, (yield from call(Call("POST", "executions/dry-run/", body=dict(body)), retry)))


def wait(key: str, limit: float | None, retry: Retry) -> Flow[Execution]:
    """Return an execution once it has ended. Raises ControlPlaneError after ``limit`` seconds."""
    began = time.monotonic()
    pause = FIRST_LOOK
    while True:
        asked = time.monotonic()
        left = LONG_POLL if limit is None else max(limit - (asked - began), 0.0)
        seconds = min(left, LONG_POLL)
        request = Call("GET", f"executions/{key}/", [("wait", f"{seconds:.3f}")], longer=seconds)
        within = Retry(retry.attempts, retry.seconds if limit is None else min(retry.seconds, left))
        execution = yield from execution_from(request, within)
        if execution.has_ended:
            return execution
        if limit is not None and time.monotonic() - began >= limit:
            text = f"The execution has not ended after {limit:g} seconds: it is {execution.status}."
            raise ControlPlaneError(TIME_LIMIT, text, request=str(request))
        if time.monotonic() - asked < seconds / 2:  # too many requests wait there already
            yield Pause(min(pause, left) * random.uniform(0.5, 1))
            pause = min(pause * 2, LAST_LOOK)


def result(key: str, limit: float | None, retry: Retry) -> Flow[Result]:
    """Return the result of an execution once it has ended."""
    return result_of((yield from wait(key, limit, retry)))


def result_of(execution: Execution) -> Result:
    """Return the result of an execution. Raises ControlPlaneError unless it has succeeded."""
    if execution.status != SUCCESS:
        why = f"the execution is {execution.status}" + (f": {execution.error}" if execution.error else "")
        raise ControlPlaneError(NOT_SUCCESSFUL, f"There is no result, as {why}")
    return parsed(Result, execution.result or {})


def page(path: str, given: Parameters, cursor: str, retry: Retry) -> Flow[tuple[list[Any], str]]:
    """Return a page's rows, and the cursor of the next page; empty if this is the last."""
    wanted = [*given, *([] if any(name == "page_size" for name, _ in given) else [("page_size", PAGE_SIZE)])]
    if path.rstrip("/").endswith("/logs"):
        wanted = list(given)  # its pages count otherwise
    told = yield from call(Call("GET", path, [*wanted, *([("cursor", cursor)] if cursor else [])]), retry)
    if not isinstance(told, dict) or not isinstance(told.get("results"), list):
        raise ControlPlaneError(UNEXPECTED, f"The answer at {path} is no list of the control plane's API.")
    # The cursor alone: the rest of the link is as the control plane sees itself, and the token goes nowhere else
    following = parse_qs(urlsplit(str(told.get("next") or "")).query).get("cursor", [""])
    return told["results"], following[0]


def resource_from(request: Call, retry: Retry) -> Flow[Resource]:
    """Send a request that is answered with something registered."""
    answer: Answer = yield from send(request, retry)
    found = parsed(Resource, answer.json())
    # A proxy that compresses answers marks their tags as weak, which the control plane does not take back
    found.etag = answer.headers.get("etag", "").removeprefix("W/") or f'"{found.version}"'
    return found


def find(kind: str, which: int | str, filters: Mapping[str, Any], retry: Retry) -> Flow[Resource]:
    """Return something registered by its id, or by its name. Raises ControlPlaneError unless there is just one."""
    if isinstance(which, str):
        rows, _ = yield from page(f"{kind}/", parameters({"name": which, **filters}), "", retry)
        if len(rows) != 1:
            kind_of_error, text = ("invalid", "several are called") if rows else ("not-found", "nothing is called")
            raise ControlPlaneError(kind_of_error, f"Among {kind}, {text} {which!r}.", None if rows else 404)
        which = parsed(Resource, rows[0]).id
    return (yield from resource_from(Call("GET", f"{kind}/{which}/"), retry))


def place_of(kind: str, which: Resource | int) -> str:
    """Return the path of something registered."""
    return f"{kind}/{which.id if isinstance(which, Resource) else which}/"


def patch(kind: str, which: Resource | int, changes: Mapping[str, Any], etag: str | None, retry: Retry) -> Flow[Any]:
    """Change something registered, if it still is as it was read."""
    tag = _tag_of(which) if etag is None else etag
    return (yield from resource_from(write("PATCH", place_of(kind, which), dict(changes), etag=tag), retry))


def delete(kind: str, which: Resource | int, etag: str | None, retry: Retry) -> Flow[None]:
    """Delete something registered, if it still is as it was read."""
    tag = _tag_of(which) if etag is None else etag
    yield from send(write("DELETE", place_of(kind, which), etag=tag), retry)


def _tag_of(which: Resource | int) -> str:
    return which.etag if isinstance(which, Resource) else ""
