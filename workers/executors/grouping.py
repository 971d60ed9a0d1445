"""Figures of groups of rows: in the clear if one party has all the data, otherwise on the SPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

#: Columns are scaled by powers of two whose exponents are multiples of this: no more of a column's size is told.
STEP = 4
EXTREMES = ("MIN", "MAX")


@dataclass(frozen=True, slots=True)
class Item:
    """One figure of a column. Its numbers are multiplied by 2 to the ``scale`` for the SPU."""

    function: str
    scale: int = 0


def in_the_clear(codes: Any, numbers: Any, function: str, groups: int) -> Any:
    """Return the figure of each group, NaN if it has none. ``numbers``: (rows,), NaN for an empty cell."""
    import numpy as np
    import pandas as pd

    numbers = np.asarray(numbers, float)
    if function == "VAR":
        numbers = _centred(numbers)
    found = pd.Series(numbers).groupby(np.asarray(codes)).agg(function.lower())
    return found.reindex(range(groups)).to_numpy(float)


def scale_of(numbers: Any, function: str, limit: float) -> int:
    """Return the exponent of the power of two by which the column is multiplied, so that the SPU, whose numbers stay
    below ``limit``, keeps as many digits as it can."""
    import numpy as np

    if function == "VAR":
        numbers = _centred(numbers)
    most = float(np.nanmax(np.abs(numbers), initial=0.0))
    if function == "COUNT" or not most:
        return 0
    bits, rows = math.log2(limit) - 2, max(len(numbers), 1)
    room = {"MIN": bits, "MAX": bits, "VAR": (bits - math.log2(rows)) / 2 - 1}.get(function, bits - math.log2(rows))
    return math.floor((room - math.log2(most)) / STEP) * STEP


def shares_of(numbers: Any, item: Item) -> list[Any]:
    """Return the arrays of a column that go into the SPU for this figure: float64, (rows,)."""
    import numpy as np

    there = ~np.isnan(numbers)
    if item.function == "COUNT":
        return [there.astype(float)]
    scaled = np.ldexp(numbers, item.scale)
    if item.function in EXTREMES:
        # An empty cell must not decide: it gets the column's value at the opposite end
        sign = 1.0 if item.function == "MAX" else -1.0
        scaled = sign * scaled
        return [np.where(there, scaled, np.nanmin(scaled) if there.any() else 0.0), there.astype(float)]
    if item.function == "VAR":
        # The SPU squares them: squares in float64 would lose digits if one row is far from the others
        return [np.where(there, _centred(scaled), 0.0), there.astype(float)]
    scaled = np.where(there, scaled, 0.0)
    return [scaled] if item.function == "SUM" else [scaled, there.astype(float)]


def steps(numbers: Any, item: Item, bits: int) -> tuple[Any, float]:
    """Return the numbers that the SPU computes with, and the smallest difference that it can represent.

    ``bits``: its fraction bits. For VAR, which adds up squares, it is the difference whose square has three digits.
    """
    if item.function == "VAR":
        return _centred(numbers) if len(numbers) else numbers, math.ldexp(1.0, -item.scale - 4) * 2.0 ** (-bits / 2)
    return numbers, math.ldexp(1.0, -bits - item.scale)


def _centred(numbers: Any) -> Any:
    """Return the numbers minus their median: the variance stays, and the SPU's digits are not used up by what all
    numbers have in common.

    The median, since a single outlier moves the mean away from all other numbers.
    """
    import numpy as np

    there = ~np.isnan(numbers)
    return numbers - np.median(numbers[there]) if there.any() else numbers


def sorted_rows(items: Sequence[Item], sizes: Sequence[int]) -> Any:
    """Return a function for the SPU that sorts rows by group, and makes running sums and greatest values.

    ``sizes``: how many keys each party has. The function takes keys by party, and columns by item.
    """

    def rows(keys: list[Any], columns: list[list[Any]]) -> Any:
        import jax
        import jax.numpy as jnp

        group = jnp.zeros_like(keys[0])
        for key, size in zip(keys, sizes, strict=True):
            group = group * size + key
        summed = [c for item, mine in zip(items, columns, strict=True) for c in _summed(item, mine)]
        group_sorted, *summed = jax.lax.sort([group, *summed], num_keys=1)
        last = jnp.concatenate([group_sorted[1:] != group_sorted[:-1], jnp.ones(1, bool)])
        greatest = [
            jax.lax.sort([group, mine[0]], num_keys=2)[1]
            for item, mine in zip(items, columns, strict=True)
            if item.function in EXTREMES
        ]
        place = jnp.where(last, group_sorted, math.prod(sizes))
        return place, [jnp.cumsum(c) for c in summed], greatest, jnp.sum(last.astype(int))

    return rows


def are_large(groups: int, least: int) -> Any:
    """Return a function for the SPU that tells of the output of ``sorted_rows`` whether each group has so many rows."""

    def found(made: Any) -> Any:
        import jax
        import jax.numpy as jnp

        place = made[0]
        # As in figures: the last row of each group comes first
        _, last = jax.lax.sort([place, jnp.arange(place.shape[0])], num_keys=1)
        last = last[:groups]
        sizes = last - jnp.concatenate([jnp.full(1, -1), last[:-1]])
        return jnp.min(sizes) >= least

    return found


def figures(items: Sequence[Item], groups: int, rows: int, bits: int) -> Any:
    """Return a function for the SPU that makes each group's figures from the output of ``sorted_rows``. ``bits``: its
    fraction bits.

    The function returns the groups' numbers, then for each item its figures and whether they exist.
    """

    def found(made: Any) -> Any:
        import jax
        import jax.numpy as jnp

        place, summed, greatest, _ = made
        # The last row of each group comes first, so that nobody sees the sizes of the groups
        place, *carried = (c[:groups] for c in jax.lax.sort([place, *summed, *greatest], num_keys=1))
        sums = [c - jnp.concatenate([jnp.zeros(1, c.dtype), c[:-1]]) for c in carried[: len(summed)]]
        extremes = carried[len(summed) :]
        told = []
        for item in items:
            mine = [sums.pop(0) for _ in range(_SUMS.get(item.function, 2))]
            if item.function in ("COUNT", "SUM"):
                told.append((mine[0], mine[0] == mine[0]))
            elif item.function in EXTREMES:
                told.append(_if(mine[0] > 0.5, extremes.pop(0)))
            elif item.function == "MEAN":
                told.append(_if(mine[1] > 0.5, _quotient(mine[0], mine[1], rows, bits)))
            else:
                total, squares, count = mine
                mean = _quotient(total, count, rows, bits)
                left = squares - mean * total - mean * (total - mean * count)
                told.append(_if(count > 1.5, _quotient(left, count - 1.0, rows, bits)))
        return place, told

    return found


def _if(there: Any, value: Any) -> tuple[Any, Any]:
    """Return values with those hidden that are no figure of the group: they may be another group's."""
    import jax.numpy as jnp

    return jnp.where(there, value, 0.0), there


def arrays(item: Item) -> int:
    """Return how many arrays ``shares_of`` makes for an item."""
    return {"COUNT": 1, "SUM": 1}.get(item.function, 2)


#: How many sums ``_summed`` makes, if not two.
_SUMS = {"COUNT": 1, "SUM": 1, "MIN": 1, "MAX": 1, "VAR": 3}


def _summed(item: Item, columns: list[Any]) -> list[Any]:
    if item.function in EXTREMES:
        return columns[1:]
    return [columns[0], columns[0] * columns[0], columns[1]] if item.function == "VAR" else columns


def _quotient(total: Any, count: Any, rows: int, bits: int) -> Any:
    """Return ``total / count`` to the SPU's last bits: its own division is exact to some four digits.

    Each round divides what is left. 1 / count would have too few bits, so it is multiplied by a power of two about as
    large as the greatest count.
    """
    import jax.numpy as jnp

    shift = float(2 ** min(math.ceil(math.log2(max(rows, 2))), bits - 2))
    count = jnp.where(count < 0.5, 1.0, count)
    inverse = shift / count
    found = (total / shift) * inverse
    for _ in range(3):
        found = found + ((total - found * count) * inverse) / shift
    return found


def in_place(place: Any, told: Any, items: Sequence[Item]) -> tuple[list[int], list[Any]]:
    """Return, from what is revealed, the groups' numbers and the figures of each item, scaled back; NaN if there is
    none."""
    import numpy as np

    found = []
    for item, (values, there) in zip(items, told, strict=True):
        power = {"COUNT": 0, "VAR": -2 * item.scale}.get(item.function, -item.scale)
        sign = -1.0 if item.function == "MIN" else 1.0
        values = np.asarray(values, float)
        if item.function == "COUNT":
            values = np.round(values)
        found.append(np.where(np.asarray(there, bool), np.ldexp(sign * values, power), np.nan))
    return [int(p) for p in np.asarray(place)], found


@contextmanager
def double_precision() -> Iterator[None]:
    """Let JAX use 64 bits. The SPU takes numbers as JAX does: by default in 32 bits, with seven digits."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def split(number: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the index of each party's key in a group's number. ``sizes``: how many keys each party has."""
    found = {}
    for party, size in reversed(list(sizes.items())):
        number, found[party] = divmod(number, size)
    return found
