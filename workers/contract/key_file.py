"""Private keys in files that only their owner can read."""

from __future__ import annotations

import base64
import os
import secrets
import stat
from pathlib import Path


def read_key(path: Path) -> bytes:
    """Return the raw key. Raises OSError, or ValueError for a file that holds none or that others can read."""
    with path.open() as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise ValueError("it can be read by others than its owner; run chmod 600 on it")
        return base64.b64decode(file.read(), validate=True)


def write_key(path: Path, raw: bytes) -> None:
    """Write a new file. Raises OSError, also if there is one already: a key is never replaced by accident."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with open(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(base64.b64encode(raw).decode())
    try:
        path.hardlink_to(fresh)  # whoever else looks sees no key or all of it
    finally:
        fresh.unlink()
