"""Tells all parties what each computed from its own table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def told_by(parties: Iterable[str], mine: Any) -> dict[str, Any]:
    """Return each party's value. ``mine``: this party's value, if it is among ``parties``. Every party has to call
    it."""
    import secretflow as sf

    named = list(parties)
    # All parties run this line, but only the owner carries it out, with its own value
    said = sf.reveal([sf.PYU(party)(lambda value: value)(mine) for party in named])
    return dict(zip(named, said, strict=True))
