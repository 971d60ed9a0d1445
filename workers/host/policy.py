"""What party.toml allows of its tables: in which tasks, with whom, until when, and how often."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path

from workers.contract.errors import ConfigError
from workers.contract.validation import Run
from workers.contract.wording import Text
from workers.host.party_file import DatasetEntry
from workers.host.places import below


def check_tables(
    me: str, run: Run, entries: Mapping[str, DatasetEntry], origins: Mapping[str, Collection[str]]
) -> None:
    """Raise ConfigError if a table that this party reads may not be used in this run. ``origins``: for each of them,
    the tables of party.toml that it was made of; what is refused of these is refused of it."""
    for name, made_of in origins.items():
        what = Text("{} to be used", name)
        for entry in (entries[origin] for origin in made_of if origin in entries):
            if entry.task_types is not None and not allows(entry.task_types, run.task.task_type):
                raise ConfigError("{}'s policy does not allow {} in task type {}", me, what, run.task.task_type)
            for peer in run.cluster.parties:
                if entry.peers is not None and peer != me and not allows(entry.peers, peer):
                    raise ConfigError("{}'s policy does not allow {} in tasks with {}", me, what, peer)
            if entry.expires is not None and date.today() > entry.expires:
                raise ConfigError(
                    "{}'s policy no longer allows {}: it expired on {}", me, what, Text(str(entry.expires))
                )


def allows(allowed: Collection[str], what: str) -> bool:
    """Return whether a list of party.toml has this name, or ``*`` for all."""
    return "*" in allowed or what in allowed


class Uses:
    """Counts the executions that have read each table, on this host's disk. An execution counts once, however often it
    is tried."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, dataset: str, execution: str, most: int) -> bool:
        """Count an execution that is about to read a table. Returns False, and counts nothing, if ``most`` others have.
        Raises OSError: what cannot be counted must not be read.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(below(self._directory, dataset), flags, 0o600), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            content = file.read()
            counted = content.decode("ascii", "replace").split()
            if execution in counted:
                return True
            if len(counted) >= most:
                return False
            # A line that a crash cut off counts, too
            file.write((b"" if content.endswith(b"\n") or not content else b"\n") + f"{execution}\n".encode())
            os.fsync(file.fileno())
        return True

    def taken(self, dataset: str) -> int:
        """Return how many executions have read a table."""
        try:
            return len(below(self._directory, dataset).read_text("ascii", "replace").split())
        except OSError:
            return 0
