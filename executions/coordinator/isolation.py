"""One bad thing stays one bad thing: what fails about it is told once, and the rest goes on."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import InterfaceError, InternalError, OperationalError, ProgrammingError
from pydantic import ValidationError
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

#: Errors that concern everything and pass: the database or Redis is away, locked, or not migrated yet. What was at hand
#: is done again.
EVERYTHING = (RedisError, OSError, OperationalError, InterfaceError, InternalError, ProgrammingError)
#: Seconds after which the log is told again of the same error about the same thing.
TOLD_AGAIN = 60.0
#: Errors that are remembered as told.
MOST_TOLD = 1000

_told: dict[tuple[str, str], float] = {}


class Fault:
    """What went wrong about one thing."""

    #: What is wrong, in a line; empty if nothing is.
    reason = ""
    error: Exception | None = None


@contextmanager
def alone(what: object) -> Iterator[Fault]:
    """Let an error about one thing stop nothing else: it is logged, and what the context is has it. Raises errors that
    concern everything."""
    fault = Fault()
    try:
        yield fault
    except EVERYTHING:
        raise
    except Exception as error:
        fault.error, fault.reason = error, reason_of(error)
        tell(what, error)


def tell(what: object, error: Exception) -> None:
    """Log an error about one thing, with its place in the code, unless that was done a moment ago."""
    if not _is_news(key := (str(what), reason_of(error))):
        return
    # Not exc_info: the texts of errors further down may hold values of documents
    place = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: %s; the rest goes on\n%s", *key, place)


def warn(text: str) -> None:
    """Log a warning, unless that was done a moment ago: a party may give cause for it a thousand times a second."""
    if _is_news((text, "")):
        log.warning("%s", text)


def _is_news(key: tuple[str, str]) -> bool:
    now = time.monotonic()
    if now - _told.get(key, -TOLD_AGAIN) < TOLD_AGAIN:
        return False
    if len(_told) >= MOST_TOLD:
        _told.clear()
    _told[key] = now
    return True


def reason_of(error: Exception) -> str:
    """Return what is wrong, in a line for people, without values that a validation was given."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)[:500]
    return f"{type(error).__name__}: {error}"[:500]
