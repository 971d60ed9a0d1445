"""Cells of a party's own table as numbers, keys and texts, including empty cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.computing.context import Context
from workers.contract.errors import ConfigError
from workers.host.tables import NO_NUMBER, count_rows, read_text, refuse_text, types_of


@dataclass(slots=True)
class Cells:
    """The cells of one column. ``numbers``: float64, (rows,), NaN for an empty cell; None for a column of text."""

    kind: str
    #: The cells as they are written, an arrow array of strings.
    text: Any
    numbers: Any

    @property
    def empty(self) -> Any:
        """Return whether each cell is empty: bool, (rows,)."""
        import numpy as np
        import pyarrow.compute as pc

        if self.numbers is None:
            return pc.equal(self.text, "").to_numpy(zero_copy_only=False)
        return np.isnan(self.numbers)

    @property
    def whole(self) -> bool:
        """Return whether all numbers are whole, and written so."""
        return self.kind in ("int", "bool")


def read_cells(path: Path, dataset: str, columns: list[str]) -> dict[str, Cells]:
    """Return the columns by name. Raises ConfigError if one is missing, or has infinite values."""
    known = types_of(path, dataset, columns)
    found = {}
    for column, text in (read_text(path, dataset, list(dict.fromkeys(columns))) if columns else {}).items():
        numbers = None if known[column] == "str" else _numbers(text, column, dataset)
        found[column] = Cells(known[column], text, numbers)
    return found


def read_numbers(path: Path, dataset: str, columns: list[str]) -> dict[str, Cells]:
    """Return the cells of columns that have to be numeric; a column may have only empty cells. Raises ConfigError, also
    if a column is not numeric.
    """
    found = read_cells(path, dataset, columns)
    for column, cells in found.items():
        if cells.numbers is None:
            refuse_text(path, dataset, column)
            cells.numbers = _numbers(cells.text, column, dataset)
    return found


def own_rows(context: Context) -> int:
    """Return how many rows this party's table has. Raises ConfigError if it has none."""
    rows = count_rows(context.input_path, context.source.name)
    if not rows:
        raise ConfigError("dataset {} has no rows", context.source.name)
    return rows


def _numbers(text: Any, column: str, dataset: str) -> Any:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.utf8_trim_whitespace(text)
    plain = pc.if_else(pc.is_in(plain, pa.array(NO_NUMBER)), None, plain)
    for word, digit in (("true", "1"), ("false", "0")):
        plain = pc.if_else(pc.equal(pc.utf8_lower(plain), word), digit, plain)
    try:
        numbers = pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False).astype(float)
    except pa.ArrowInvalid:
        raise ConfigError("column {!r} of dataset {} is not numeric", column, dataset) from None
    if infinite := int(np.isinf(numbers).sum()):
        raise ConfigError("column {!r} of dataset {} has {} infinite values; remove them", column, dataset, infinite)
    return numbers
