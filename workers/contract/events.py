"""Status events as they go over Redis: their statuses, limits and pieces.

``workers.runtime.publisher`` writes an event's JSON, ``executions.coordinator.messages`` reads it.
"""

from __future__ import annotations

RUNNING, SUCCESS, FAILURE = "RUNNING", "SUCCESS", "FAILURE"
MIB = 2**20
#: The largest event, in bytes of JSON. The control plane refuses a larger one, so a party does not send it.
EVENT_LIMIT = 16 * MIB
#: A larger event goes in pieces of this many bytes, each an entry of the stream: the reader takes many entries at
#: once, and neither it nor Redis should have to hold many large ones.
PIECE_SIZE = 48 * 1024
MOST_PIECES = -(-EVENT_LIMIT // PIECE_SIZE)
#: The largest report that is no event, in bytes of JSON.
REPORT_LIMIT = MIB
#: How much the control plane takes of an error's text, in characters, and of a list of problems, in entries.
ERROR_LENGTH, MOST_PROBLEMS = 4000, 100
WORKER_LENGTH = 200
#: The largest result, in bytes of JSON, and any other field of an event: the event around them has room too.
RESULT_LIMIT, FIELD_LIMIT = EVENT_LIMIT - 4 * MIB, MIB // 4


def shortened(text: str, length: int = ERROR_LENGTH) -> str:
    """Return the text, or as much of it as the control plane takes, with a word about the rest."""
    if len(text) <= length:
        return text
    rest = f" ... ({len(text):,} characters; the rest is left out)"
    return text[: length - len(rest)] + rest
