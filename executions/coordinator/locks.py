"""What keeps a coordinator that stands still from keeping the others waiting."""

from __future__ import annotations

from typing import Any

#: Seconds between two statements of a transaction after which PostgreSQL ends it. A coordinator that is stopped there,
#: or whose host lost its power, holds rows that the others need: without this for hours, until TCP notices.
LONGEST_PAUSE = 10


def bound_pauses(connection: Any, **_: Any) -> None:
    """Have the database end the transactions of a connection that was just made where they stand still. A receiver of
    ``connection_created``."""
    if connection.vendor == "postgresql":  # SQLite's lock goes with its process alone
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, false)", [f"{LONGEST_PAUSE}s"])
