"""Texts, headers and problems that many operations of the API's description have in common."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import PolymorphicProxySerializer

from controlplane.api.errors import TITLES, problem

UUID = "6a0e3c1b-93b5-4d6f-9a55-6c1f0b7a2d11"
ABOUT_DRY_RUN = "Answers what the write would be answered, with the header `Dry-Run: true`, and does nothing."
ABOUT_KEY = (
    "A new UUID for each write. The same request with the same key is done once within 24 hours, however often it is "
    "sent, and is answered the same."
)
ABOUT_IF_MATCH = "The `ETag` that you have read. If somebody has changed it since, the answer is 412."
ABOUT_IF_NONE_MATCH = "The `ETag` of an earlier answer. If nothing has changed, the answer is 304, without a body."
ABOUT_ORDERING = "Order of the list. `-` in front reverses it."
ABOUT_FIELDS = "Only these fields, separated by commas. All others are left out of the answer, required or not."
#: Parameters that say nothing of themselves.
ABOUT = {
    "Last-Event-ID": "Where to go on: the id of the last event that was received.",
    "attempt": "Only of this attempt.",
    "created_after": "Only what was submitted at this time or later.",
    "created_before": "Only what was submitted before this time.",
    "enabled": "Only what is switched on, or off.",
    "label": "A label as key:value, or a key alone; give several to ask for all of them.",
    "name": "Only of this name.",
    "party": "Only of this party.",
    "party__name": "Only of the party of this name.",
    "pipeline__name": "Only of the pipeline of this name.",
    "produced_by": "Only what this execution made.",
    "status": "Only of this status; give several to ask for any of them.",
    "task__name": "Only of the task of this name.",
    "task_type": "Only of this task type.",
}
DRY_RUN = "With `?dry_run=true`: what would happen. Nothing was done."
EMPTY = "Done. The answer has no body."
DESCRIPTIONS = {200: "Done.", 201: "Added.", 202: "Accepted: it happens within moments."}


def in_full_or_brief(name: str, full: Any, brief: Any) -> PolymorphicProxySerializer:
    """Describe an answer that is brief for those who may not view what it is about."""
    return PolymorphicProxySerializer(name, serializers=[full, brief], resource_type_field_name=None)


def query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def header(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": description}


def _text(description: str, example: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}, "example": example}


HEADERS = {
    "X-Request-ID": _text("Id of the request. The log is searched by it.", "0b5e2f4c9d1a4f7d8a3b6c5e7f901234"),
    "ETag": _text("Names this state, for `If-None-Match`, or for `If-Match` with a change.", '"3-9f2c4b1a7d6e5f80"'),
    "Location": _text("Address of what was added. A dry run has none.", f"/api/v1/executions/{UUID}/"),
    "Link": _text("Next and previous page (RFC 8288), if there are any.", '</api/v1/tasks/?cursor=cD0y>; rel="next"'),
    "Retry-After": {
        "description": "Seconds after which another try may succeed.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 5,
    },
    "Idempotency-Replayed": _text("`true`: this is the answer that the key was given before.", "true", enum=["true"]),
    "Dry-Run": _text("`true`: nothing was done.", "true", enum=["true"]),
    "WWW-Authenticate": _text("How to say who sends the request.", "Token"),
}
UNCHANGED = {
    "description": "Nothing has changed since the answer whose `ETag` was sent as `If-None-Match`. There is no body.",
    "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in ("ETag", "X-Request-ID")},
}
#: By status: name of the component, description, further headers.
PROBLEMS: dict[int, tuple[str, str, tuple[str, ...]]] = {
    400: ("Invalid", "`invalid` or `malformed`: something in the request is wrong; `errors` says what.", ()),
    401: ("NotAuthenticated", "`not-authenticated`: there is no token, or it is not valid.", ("WWW-Authenticate",)),
    403: ("Forbidden", "`forbidden`: the token, or its user, may not do this.", ()),
    404: ("NotFound", "`not-found`: there is nothing here that you may see.", ()),
    406: ("NotAcceptable", "`not-acceptable`: the answer has no such form as `Accept` asks for.", ()),
    409: (
        "Conflict",
        "`conflict`: the current state does not allow it. `in-progress`: a request with this `Idempotency-Key` is "
        "still at work.",
        ("Retry-After",),
    ),
    412: ("Stale", "`stale`: it has been changed since the version that `If-Match` names.", ()),
    413: ("TooLarge", "`too-large`: the body is too large.", ()),
    415: ("UnsupportedMediaType", "`unsupported-media-type`: the body is not JSON.", ()),
    422: ("KeyReused", "`key-reused`: this `Idempotency-Key` was used for another request.", ()),
    429: ("TooManyRequests", "`too-many-requests`: there were too many requests.", ("Retry-After",)),
    500: ("Internal", "`internal`: the control plane has failed; its log says why.", ()),
    503: (
        "Unavailable",
        "`unavailable`: the database does not answer. `overloaded`: too much is waiting. Nothing was done.",
        ("Retry-After",),
    ),
}
#: By status: kind, path, code and detail of its example.
_EXAMPLES: dict[int, tuple[str, str | None, str, str]] = {
    400: ("invalid", "nam", "unknown_key", "unknown key; did you mean 'name'?"),
    401: ("not-authenticated", None, "authentication_failed", "Invalid token."),
    403: ("forbidden", None, "permission_denied", "You do not have permission to perform this action."),
    404: ("not-found", None, "not_found", "Not found."),
    406: ("not-acceptable", None, "not_acceptable", "Could not satisfy the request Accept header."),
    409: ("conflict", None, "conflict", "It is used by task customers-psi: delete or change these first."),
    412: ("stale", None, "stale", "It has version 3 now, and If-Match names another; read it again, then change that."),
    413: ("too-large", None, "too_large", "The body is too large."),
    415: ("unsupported-media-type", None, "unsupported_media_type", 'Unsupported media type "text/csv" in request.'),
    422: ("key-reused", None, "key_reused", "This Idempotency-Key was used for another method, address or body."),
    429: (
        "too-many-requests",
        None,
        "throttled",
        "You may send 3,000 requests a minute; wait with ?wait= instead.",
    ),
    500: ("internal", None, "error", TITLES["internal"]),
    503: ("unavailable", None, "unavailable", "The database is busy or does not answer; nothing was done, try again."),
}


def problem_example(status: int) -> dict[str, Any]:
    kind, path, code, detail = _EXAMPLES[status]
    body = problem(kind, status, [{"path": path, "code": code, "detail": detail}])
    return body | {"request_id": HEADERS["X-Request-ID"]["example"]}
