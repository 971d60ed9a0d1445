"""Checks in a run that the rows of the parties' tables line up."""

from __future__ import annotations

from collections.abc import Sequence

from workers.computing.context import Context
from workers.computing.telling import told_by
from workers.contract.alignment import DECLARED, misaligned
from workers.contract.errors import ConfigError
from workers.contract.wording import Text


def check_alignment(context: Context, rows: int, alignment: str | None, parties: Sequence[str] | None = None) -> None:
    """Tell all parties each one's number of rows and alignment. Raises ConfigError unless they line up. ``rows`` and
    ``alignment`` are those of this party's table. ``parties``: those that have rows, if not all.
    """
    parties = parties or context.parties
    told = told_by(parties, (rows, alignment))
    alignments = {party: found for party, (_, found) in told.items()}
    if problem := misaligned(alignments, {party: count for party, (count, _) in told.items()}):
        raise ConfigError(Text(problem))
    [common] = set(alignments.values())
    if str(common).startswith(DECLARED):
        context.warnings.append(
            f"The rows of {' and '.join(parties)} were taken to line up because each declares the alignment "
            f"{str(common).removeprefix(DECLARED)!r} in its party.toml; nothing else vouches for it."
        )
