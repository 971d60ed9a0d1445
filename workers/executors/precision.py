"""Warnings about results whose numbers were rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workers.computing.context import Context

#: Share of a column's numbers, other than 0, that may be rounded by more than ROUNDED without a warning.
SHARE = 0.01
#: Relative error of rounding.
ROUNDED = 1e-3


def told_precision(context: Context, columns: Sequence[tuple[str, str, Any, float]]) -> None:
    """Warn in the result of columns with numbers that fixed point cannot represent well.

    ``columns``: party, name, numbers (rows,) at that party, and the smallest step of the computation. All parties learn
    the share of such numbers if it is above ``SHARE``.
    """
    import secretflow as sf

    told = sf.reveal([sf.PYU(party)(_share)(numbers, step) for party, _, numbers, step in columns])
    for (_, name, _, step), share in zip(columns, told, strict=True):
        if share > SHARE:
            context.warnings.append(
                f"{name}: {share:.0%} of the numbers that are not 0 are rounded by more than 0.1 %, as the computation "
                f"has steps of {step:.1g}: scale the column"
            )


def _share(numbers: Any, step: float) -> float:
    import numpy as np

    numbers = np.asarray(numbers, float)
    numbers = np.abs(numbers[~np.isnan(numbers) & (numbers != 0)])
    return float(np.mean(numbers < step / (2 * ROUNDED))) if len(numbers) else 0.0
