"""Files of this host that only its user may read, and the locks of its directories. None of them is a link."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def open_lock(directory: Path, *, create: bool = True) -> IO[str]:
    """Return a directory's lock, open. Raises OSError, also where that is a link, which could lead anywhere."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    return open(os.open(directory / ".lock", flags, 0o600), "r+")


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock, for which all processes of this host wait. Raises OSError."""
    with open_lock(directory) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def replace_private(path: Path, text: str) -> None:
    """Write a file, in place of an older one at once. Raises OSError."""
    fresh = path.with_suffix(f".{os.getpid()}")
    with open(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
    os.replace(fresh, path)
