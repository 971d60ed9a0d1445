"""Columns less their mean, divided by their deviation, and where float64 cannot do that."""

from __future__ import annotations

from typing import Any

from workers.contract.errors import ConfigError

#: What a standardized value may be off by: float64 has ten more digits for numbers of like size.
_OFF = 1e-6


def standardized(values: Any) -> Any:
    """Return values (rows,), of which not all are equal, less their mean and divided by their deviation.

    Any numbers of float64 will do: those near 1e200, whose squares it does not have, and large ones that differ little.
    """
    import numpy as np

    # By a power of two first, which rounds nothing: a difference may be too large for float64, too
    _, exponent = np.frexp(np.abs(values).max())
    scaled = np.ldexp(values, -exponent)
    around = scaled - scaled[0]
    around = around / np.abs(around).max()
    centred = around - around.mean()
    return centred / centred.std()


def check_standard(values: Any, column: str, dataset: str) -> None:
    """Raise ConfigError where a mean and a deviation in float64 do not standardize a column (rows,) of this dataset."""
    import numpy as np

    if values.min() == values.max():
        return
    with np.errstate(all="ignore"):
        found = (values - values.mean()) / values.std()
    if not np.isfinite(found).all() or np.abs(found - standardized(values)).max() > _OFF:
        raise ConfigError(
            f"column {column!r} of dataset {dataset} has numbers between {values.min():.3g} and {values.max():.3g}, of "
            "which float64 has no exact mean or deviation; subtract a constant from them in the table itself where "
            "they differ little, otherwise divide them by one"
        )
