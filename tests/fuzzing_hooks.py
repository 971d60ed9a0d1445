"""What schemathesis is told of the API beyond its description."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Nothing ends meanwhile, so that ``wait`` would only take its time. Where one request is about what another one
    has done, it has to be done."""
    if isinstance(case.query, dict):
        case.query.pop("wait", None)
        if case.meta is not None and case.meta.phase.name.value == "stateful":
            case.query.pop("dry_run", None)


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """``fields`` leaves out what the description requires, as it says. A number is taken for a text, and 0 for false;
    blanks around a text are not part of it: the description promises less."""
    kind = type(failure).__name__
    if kind == "JsonSchemaError" and isinstance(case.query, dict) and "fields" in case.query:
        return False
    if kind == "AcceptedNegativeData":
        if "in query" in failure.message and "" in dict(case.query or {}).values():  # an empty filter filters nothing
            return False
        sent = [case.body, dict(case.headers or {})]
        return not (("in body" in failure.message and "type" in failure.message) or any(_has_blanks(e) for e in sent))
    return True


def _has_blanks(value: Any) -> bool:
    """Return whether any text has blanks around it."""
    if isinstance(value, dict):
        return any(_has_blanks(each) for each in value.values())
    if isinstance(value, list):
        return any(_has_blanks(each) for each in value)
    return isinstance(value, str) and value != value.strip()
