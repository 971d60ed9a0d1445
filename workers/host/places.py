"""Paths made of words that come from outside."""

from __future__ import annotations

import re
from pathlib import Path

from workers.contract.errors import ConfigError

#: What a name may be made of. No separator, and neither ``.`` nor ``..``; blanks would reach SecretFlow's shell.
PLAIN = re.compile(r"\.?[A-Za-z0-9_][A-Za-z0-9_.@-]{0,254}")


def below(root: Path, name: str) -> Path:
    """Return the path of this name directly below a directory. Raises ConfigError for what is no plain name: it could
    lead elsewhere. Every path that is made of a word from outside comes from here."""
    if not PLAIN.fullmatch(name):
        raise ConfigError("a name that came from outside cannot be a file's name")
    return root / name
