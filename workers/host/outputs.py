"""The note beside a kept output: which execution made it, and how to see that it has not been changed since."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from workers.host.private_files import replace_private

_BLOCK = 1 << 20

#: Suffix of an output's note.
NOTE = ".origin.json"


def note_of(path: Path) -> Path:
    """Return the path of an output's note."""
    return path.with_suffix(NOTE)


def read_note(path: Path) -> dict[str, Any]:
    """Return the note of an output; empty if there is none."""
    try:
        note = json.loads(note_of(path).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def write_note(path: Path, digest: str, content: Mapping[str, Any]) -> None:
    """Write the note of an output whose file exists and has this digest. Raises OSError."""
    replace_private(note_of(path), json.dumps({**content, "state": list(_state(path)), "sha256": digest}))


def remove_output(path: Path, seen: os.stat_result, trash: Path) -> bool:
    """Remove an output and its note, unless a run has replaced it since it was ``seen``. Returns whether it was
    removed. ``trash``: a private directory on the same file system. Raises OSError.
    """
    moved = trash / path.name
    os.rename(path, moved)  # whatever it is now: what comes to this place from here on is not touched
    now = moved.stat()
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (seen.st_ino, seen.st_size, seen.st_mtime_ns):
        with suppress(FileExistsError):  # replaced once more
            os.link(moved, path)
        moved.unlink()
        return False
    if not path.exists():
        note_of(path).unlink(missing_ok=True)
    moved.unlink()
    return True


def is_as_made(path: Path, note: Mapping[str, Any]) -> bool:
    """Return whether an output is unchanged since its note was written. Raises OSError. Only a file with other times,
    such as a restored one, is read as a whole: its content may be the same.
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


@lru_cache(maxsize=16)  # cached: a run asks several times
def _digest(path: Path, state: tuple[int, ...]) -> str:
    return digest_of(path)


def _state(path: Path) -> tuple[int, ...]:
    """Return size and times of a file, which change when somebody edits or replaces it. Raises OSError. The time of
    modification can be set back by hand, the time of change cannot.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
