"""Lines of a run's log as they go over Redis: what a message holds, and how many there may be.

``workers.runtime.log_sender`` writes the messages, ``executions.coordinator.logs`` reads them. Whether a party sends
any is its own policy's affair; all of its log stays on its host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: Field of an entry of a party's stream that holds lines of a log.
LOG = "log"
#: Levels by their names in party.toml, the API and the pages, with their numbers in Python and on the wire.
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
#: Characters of a line's text, and of where in the code it comes from; what is longer is cut.
TEXT_LENGTH, SOURCE_LENGTH = 500, 80
#: Lines of a message, and its size in bytes of JSON.
MOST_LINES, MESSAGE_LIMIT = 100, 16 * 1024
#: Lines of one run at one party, and their size in bytes of JSON, that the control plane keeps.
LINES_OF_A_RUN, BYTES_OF_A_RUN = 5000, 2**20
#: Stands for the text of a line that other software wrote.
STAYS = "(text stays at the party)"

#: A line: seconds since 1970, its level's number, where in the code it comes from, and its text.
Line = tuple[float, int, str, str]


def name_of(level: int) -> str:
    """Return the name of the highest level that is not above this number."""
    return max((number, name) for name, number in LEVELS.items() if number <= max(level, 10))[1]


def as_text(lines: Iterable[Mapping[str, Any]]) -> str:
    """Return lines for people, a row each. A line has ``at`` (a datetime), ``party``, ``level``, ``source`` and
    ``text``."""
    return "".join(
        f"{line['at']:%Y-%m-%d %H:%M:%S}.{line['at'].microsecond // 1000:03} {line['party']} {line['level'].upper()} "
        f"{line['source']}{': ' if line['source'] else ''}{line['text']}\n"
        for line in lines
    )
