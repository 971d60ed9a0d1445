"""Standardizing columns (minus their mean, divided by their deviation), and the limits of float64."""

from __future__ import annotations

from typing import Any

from workers.contract.errors import ConfigError

#: Allowed error of a standardized value: float64 has ten more digits for numbers of similar size.
_OFF = 1e-6


def standardized(values: Any) -> Any:
    """Return values (rows,) minus their mean, divided by their deviation; not all may be equal. It works for all
    numbers of float64: also for those near 1e200, whose squares overflow, and for large ones that differ little.
    """
    import numpy as np

    # Scaled by a power of two first, which rounds nothing: even a difference may be too large for float64
    _, exponent = np.frexp(np.abs(values).max())
    scaled = np.ldexp(values, -exponent)
    around = scaled - scaled[0]
    around = around / np.abs(around).max()
    centred = around - around.mean()
    return centred / centred.std()


def check_standard(values: Any, column: str, dataset: str) -> None:
    """Raise ConfigError if mean and deviation in float64 cannot standardize a column (rows,) of this dataset."""
    import numpy as np

    if values.min() == values.max():
        return
    with np.errstate(all="ignore"):
        found = (values - values.mean()) / values.std()
    if not np.isfinite(found).all() or np.abs(found - standardized(values)).max() > _OFF:
        raise ConfigError(
            "column {!r} of dataset {} has numbers between {:.3g} and {:.3g}, of which float64 has no exact mean or "
            "deviation; subtract a constant from them in the table itself where they differ little, otherwise divide "
            "them by one",
            column,
            dataset,
            values.min(),
            values.max(),
        )
