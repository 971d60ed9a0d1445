"""What each party computed of its own table, told to all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def told_by(parties: Iterable[str], mine: Any) -> dict[str, Any]:
    """Return, for each party, what it says. ``mine``: what this party says, if it is among ``parties``; every party
    calls it alike."""
    import secretflow as sf

    named = list(parties)
    # Written at every party, carried out at the owner alone, with what the owner has
    said = sf.reveal([sf.PYU(party)(lambda value: value)(mine) for party in named])
    return dict(zip(named, said, strict=True))
