"""The note beside a kept output: which execution made it, and by what one sees that it is still what was made."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


def note_of(path: Path) -> Path:
    """Return where the note of an output is."""
    return path.with_suffix(".origin.json")


def read_note(path: Path) -> dict[str, Any]:
    """Return the note of an output; empty where there is none."""
    try:
        note = json.loads(note_of(path).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def write_note(path: Path, digest: str, content: Mapping[str, Any]) -> None:
    """Write the note of an output whose file is there by now, and whose content has this digest. Raises OSError."""
    fresh = note_of(path).with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps({**content, "state": list(_state(path)), "sha256": digest}))
    os.replace(fresh, note_of(path))


def is_as_made(path: Path, note: Mapping[str, Any]) -> bool:
    """Return whether an output is still what the note says was made. Raises OSError.

    A file that was copied or restored has another time and the same content: that alone is read as a whole.
    """
    state, known = _state(path), note.get("state")
    if not isinstance(known, list) or not known or known[0] != state[0]:
        return False
    return known == list(state) or note.get("sha256") == _digest(path, state)


def digest_of(path: Path) -> str:
    """Return the digest of a file's content. Raises OSError."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


@lru_cache(maxsize=16)  # a run asks several times
def _digest(path: Path, state: tuple[int, ...]) -> str:
    return digest_of(path)


def _state(path: Path) -> tuple[int, ...]:
    """Return what of a file changes when somebody edits or replaces it: its size, and its times. Raises OSError.

    The time of modification can be set back by hand, the time of change cannot.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
