"""Makes ``sql_processor`` follow the rules of SQL where SecretFlow's own operators do not."""

from __future__ import annotations

from typing import Any


def compute_as_sql_says() -> None:
    """Correct operators whose values differed from those of DuckDB, whose SQL it is. May be called again.

    The quotient of whole numbers lost its fraction, the remainder of others was always 0, and a condition beside one of
    an empty cell was not true whatever it said. A whole number that leaves 64 bits fails; it wrapped around.
    """
    import secretflow.compute as sc
    from secretflow.component.preprocessing.unified_single_party_ops import sql_processor

    operators = sql_processor._binary_mapping
    operators |= {"and": sc.and_kleene, "or": sc.or_kleene, "div": _quotient, "mod": _remainder}
    operators |= {"add": sc.add_checked, "sub": sc.subtract_checked, "mul": sc.multiply_checked}


def _is_whole(value: Any) -> bool:
    import pyarrow as pa

    return isinstance(value, int) or (hasattr(value, "dtype") and pa.types.is_integer(value.dtype))


def _quotient(first: Any, second: Any) -> Any:
    import pyarrow as pa
    import secretflow.compute as sc

    if _is_whole(first) and _is_whole(second):
        first = float(first) if isinstance(first, int) else sc.cast(first, pa.float64())
    return sc.divide(first, second)


def _remainder(first: Any, second: Any) -> Any:
    """Return the remainder of a division, with the sign of the dividend."""
    import secretflow.compute as sc

    times = sc.divide(first, second)
    if not (_is_whole(first) and _is_whole(second)):
        times = sc.trunc(times)
    return sc.subtract(first, sc.multiply(times, second))
