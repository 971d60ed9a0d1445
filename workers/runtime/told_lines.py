"""What of a process's log lines may leave the host: told to its worker by marks beside the lines themselves.

A compute process writes its log to standard error, which its worker reads. Only the process knows which of a line's
words are constants of this software, and which names the run's documents have: so it writes a mark before the line,
with what may be told of it. A mark begins with a word that nobody else knows; the worker takes it out.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from numbers import Number
from pathlib import Path
from types import TracebackType
from typing import Any

from workers.contract.errors import SecretFlowTaskError
from workers.contract.logs import SOURCE_LENGTH, STAYS, TEXT_LENGTH
from workers.contract.wording import NOT_TOLD, Text
from workers.host.gate import Gate
from workers.host.log_lines import text_told

#: Loggers whose texts are constants with gaps, see tests/test_house.py; and where this software is.
OURS, ROOT = "workers.", Path(__file__).resolve().parents[2]
#: Frames of a traceback that are told, the innermost ones; errors behind one another.
MOST_FRAMES, MOST_CAUSES = 8, 4
#: Bytes that are written to a pipe at once or not at all.
PIPE_BUF = 4096

_beginning = b""
_gate: Gate | None = None
_is_on = False


def begin_marks(word: str) -> None:
    """Have marks begin with this word, from the process's worker; without one there are none."""
    global _beginning
    _beginning = beginning_of(word) if word else b""


def tell_by(gate: Gate | None, *, lines: bool) -> None:
    """Write marks from now on; None: no more. ``lines``: for each line, and not only for a failure."""
    global _gate, _is_on
    _is_on, _gate = gate is not None, gate if lines else None


def mark_failure() -> None:
    """Tell the worker that the run has failed: its last lines may be wanted."""
    if _is_on:
        _write({"failed": True})


def note(record: logging.LogRecord) -> None:
    """Tell the worker what may be told of a line that is about to be written. Raises nothing."""
    if (gate := _gate) is None:
        return
    try:
        lines = [told_of(record, gate), *_told_of_error(record.exc_info, gate)]
        source = f"{record.filename}:{record.lineno}" if _is_code(record.pathname) else ""
        _write({"level": record.levelno, "source": source[-SOURCE_LENGTH:], "lines": lines})
    except Exception:  # a line that cannot be formatted is one that logging itself complains of
        with suppress(OSError):
            _write({"level": logging.WARNING, "source": "", "lines": [STAYS]})


def told_of(record: logging.LogRecord, gate: Gate) -> str:
    """Return what is told of a line's text: of ours all but what stands in gaps and may not be told, of others only
    what is known."""
    if not record.name.startswith(OURS) or not isinstance(record.msg, str):
        return text_told(record.getMessage())[:TEXT_LENGTH]
    arguments: Any = record.args
    if isinstance(arguments, Mapping):
        told: Any = {key: _told(value, gate) for key, value in arguments.items()}
    else:
        told = tuple(_told(value, gate) for value in arguments or ())
    return str(record.msg % told if told else record.msg)[:TEXT_LENGTH]


def _told(value: Any, gate: Gate) -> Any:
    if isinstance(value, SecretFlowTaskError):
        return gate.error(value)
    if isinstance(value, Text):
        return value.told(gate.may_tell)
    if isinstance(value, Number):
        return value
    text = str(value)
    return text if gate.may_tell(text) else NOT_TOLD


def _told_of_error(info: Any, gate: Gate) -> Iterator[str]:
    """Yield the kinds of an error and of what caused it, with the places in the code that it came through."""
    error = info[1] if isinstance(info, tuple) else info if isinstance(info, BaseException) else None
    for _ in range(MOST_CAUSES):
        if error is None:
            return
        said = gate.error(error) if isinstance(error, SecretFlowTaskError) else STAYS
        yield f"{type(error).__name__}: {said}"[:TEXT_LENGTH]
        for place in _places(error.__traceback__):
            yield f"  at {place}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _places(trace: TracebackType | None) -> list[str]:
    found = []
    while trace:
        code = trace.tb_frame.f_code
        where = _place(code.co_filename)
        found.append(f"{where}:{trace.tb_lineno} in {code.co_name}" if where else "code elsewhere")
        trace = trace.tb_next
    return [place[-120:] for place in found[-MOST_FRAMES:]]


def _is_code(path: str) -> bool:
    return bool(_place(path))


def _place(path: str) -> str:
    """Return the path of installed code, from its package on; nothing for what lies elsewhere on this host."""
    for root in _ROOTS:
        if path.startswith(root + os.sep):
            return path[len(root) + 1 :]
    return ""


#: Where packages are installed, the innermost directories first.
_ROOTS = sorted({str(ROOT), *(str(Path(place)) for place in sys.path if place)}, key=len, reverse=True)


def _write(mark: Mapping[str, Any]) -> None:
    if not _beginning:
        return
    text = _beginning + json.dumps(mark).encode() + b"\n"
    while len(text) > PIPE_BUF and len(mark["lines"]) > 1:
        # A longer one could be written in two halves, with another thread's line in between
        mark = {**mark, "lines": mark["lines"][:-1]}
        text = _beginning + json.dumps(mark).encode() + b"\n"
    os.write(2, text)


# --- in the worker


def beginning_of(word: str) -> bytes:
    """Return with what the marks of a process begin that was told this word."""
    return f"\x1e{word} ".encode()


def read_mark(line: bytes, beginning: bytes) -> Mapping[str, Any] | None:
    """Return what a mark says; None for any other line."""
    if not line.startswith(beginning):
        return None
    try:
        found = json.loads(line[len(beginning) :])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
