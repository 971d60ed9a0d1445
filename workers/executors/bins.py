"""Bins of the numbers of a column."""

from __future__ import annotations

from typing import Any


def cut_points(numbers: Any, bins: int, method: str) -> Any:
    """Return the upper ends of all bins but the last, in order. A bin includes its upper end, not its lower one.

    ``numbers``: (rows,), without empty cells. ``method``: ``quantile`` or ``eq_range``. If there are no more different
    numbers than bins, each number has its own bin. So has a number that two quantiles fall on: otherwise a column that
    is mostly one number would be a single bin.
    """
    import numpy as np

    different = np.unique(numbers)
    if len(different) == 1:
        return np.array([np.nextafter(different[0], -np.inf), different[0]])
    if method == "eq_range":
        return np.linspace(different[0], different[-1], bins + 1)[1:-1]
    if len(different) <= bins:
        return different[:-1]
    cuts = np.quantile(numbers, np.linspace(0, 1, bins + 1)[1:-1])
    found, times = np.unique(cuts, return_counts=True)
    heavy = found[(times > 1) & np.isin(found, different)]
    below = different[np.maximum(np.searchsorted(different, heavy) - 1, 0)]
    # Above the largest number there is no row
    return np.setdiff1d(np.union1d(found, below[below < heavy]), different[-1:])


def counts(numbers: Any, cuts: Any) -> Any:
    """Return how many of the numbers (rows,) fall into each bin."""
    import numpy as np

    return np.bincount(np.searchsorted(cuts, numbers, side="left"), minlength=len(cuts) + 1)
