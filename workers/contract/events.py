"""Status events as they go over Redis: their statuses, limits and pieces.

``workers.runtime.publisher`` writes an event's JSON, ``executions.coordinator.messages`` reads it.
"""

from __future__ import annotations

#: Fields of an entry of a party's stream: an event, or a piece of a large one with its text, and the party's signature.
EVENT, PIECE, TEXT, SIGNATURE = "event", "piece", "text", "signature"
RUNNING, SUCCESS, FAILURE = "RUNNING", "SUCCESS", "FAILURE"
MIB = 2**20
#: The largest event, in bytes of JSON. The control plane refuses a larger one, so a party does not send it.
EVENT_LIMIT = 16 * MIB
#: A larger event is sent in pieces of this many bytes, each an entry of the stream. The reader takes many entries at
#: once, and neither it nor Redis should have to hold many large ones.
PIECE_SIZE = 48 * 1024
MOST_PIECES = -(-EVENT_LIMIT // PIECE_SIZE)
#: The largest report that is not an event, in bytes of JSON.
REPORT_LIMIT = MIB
#: How much the control plane stores: characters of an error's text, and entries of a list of problems.
ERROR_LENGTH, MOST_PROBLEMS = 4000, 100
WORKER_LENGTH = 200
#: The largest result, and the largest other field of an event, in bytes of JSON. They leave room for the rest of it.
RESULT_LIMIT, FIELD_LIMIT = EVENT_LIMIT - 4 * MIB, MIB // 4


def signed_part(party: str, kind: str, *parts: bytes) -> tuple[str, bytes]:
    """Return purpose and message of the signature of an entry of a party's stream: of its event, piece or report."""
    return f"{kind} of {party}", b"\0".join(parts)


def shortened(text: str, length: int = ERROR_LENGTH) -> str:
    """Return the text; if it is too long, its beginning with a note about its length."""
    if len(text) <= length:
        return text
    rest = f" ... ({len(text):,} characters; the rest is left out)"
    return text[: length - len(rest)] + rest
