"""``table_statistics`` against exact arithmetic in fractions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from tests.differential.cases import (
    KINDS,
    Case,
    Output,
    column,
    is_empty,
    kind_found,
    number,
    the_same_at_all,
)


def case_of(tables: Mapping[str, Mapping[str, Any]]) -> Case:
    """A column's name begins with its kind."""
    task = {
        "task_type": "table_statistics",
        "data_sources": dict.fromkeys(tables, "rows"),
        "algorithm_params": {"statistics_params": {"columns": {p: list(mine) for p, mine in tables.items()}}},
    }
    return Case({"rows": tables}, task, tuple(tables))


@st.composite
def strategy(draw: Any) -> Case:
    rows = draw(st.integers(1, 40))
    kinds = {party: draw(st.lists(st.sampled_from(KINDS[:4]), min_size=1, max_size=3)) for party in ("alice", "bob")}
    return case_of({p: {f"{k}_{i}": draw(column(rows, k)) for i, k in enumerate(mine)} for p, mine in kinds.items()})


def examples() -> list[Case]:
    import numpy as np

    large = [str(n) for n in np.random.default_rng(3).integers(30000, 120000, 1000)]
    other = {"int_y": ["1", "2"]}
    return [
        case_of({"alice": {"int_x": large}, "bob": other}),
        case_of({"alice": {"int_x": ["60000", "60000", "60001"], "int_y": [str(2**40), str(-(2**40)), "NA"]},
                 "bob": other}),
        case_of({"alice": {"int_x": [str(2**60), str(2**60 + 3), str(-(2**61))]}, "bob": other}),
        case_of({"alice": {"float_x": ["1e-9", "3e-9", "-2e-9", "9e-9"]}, "bob": other}),
    ]  # fmt: skip


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    found: dict[str, dict[str, Any]] = {}
    for report in the_same_at_all(answers, "reports")["report"]:
        for table in report["tables"]:
            for row in table["rows"]:
                found[row[0]] = dict(zip(table["columns"][1:], row[1:], strict=True))
    columns = [(party, name) for party, mine in case.tables["rows"].items() for name in mine]
    assert sorted(found) == sorted(f"{party}.{name}" for party, name in columns)
    for party, name in columns:
        cells = case.cells(party, name)
        told, kind = found[f"{party}.{name}"], kind_found(cells, name.split("_")[0])
        there = [cell for cell in cells if not is_empty(cell, kind)]
        assert told["count(non-NA count)"] == len(there)
        assert told["count_na(NA count)"] == len(cells) - len(there)
        if kind in ("int", "float"):
            _compare(told, [Fraction(int(cell)) if kind == "int" else Fraction(number(cell)) for cell in there])
        else:
            assert told["nunique"] == len(set(there))


def _compare(told: dict[str, Any], values: list[Fraction]) -> None:
    n, mean = len(values), sum(values, Fraction(0)) / len(values)
    power = {k: sum((v**k for v in values), Fraction(0)) for k in (1, 2, 3, 4)}
    left = {k: sum(((v - mean) ** k for v in values), Fraction(0)) for k in (2, 3, 4)}
    variance = left[2] / (n - 1) if n > 1 else None
    ordered = sorted(values)

    def quantile(share: Fraction) -> Fraction:
        place = (n - 1) * share
        low = math.floor(place)
        return ordered[low] + (ordered[min(low + 1, n - 1)] - ordered[low]) * (place - low)

    skew = kurtosis = None
    if n > 2:
        third = float(left[3]) / n / (float(left[2]) / n) ** 1.5 if left[2] else 0.0
        skew = math.sqrt(n * (n - 1)) / (n - 2) * third
    if n > 3:
        adjust = 3 * (n - 1) ** 2 / ((n - 2) * (n - 3))
        fourth = float(left[4] / left[2] ** 2) if left[2] else 0.0
        kurtosis = n * (n + 1) * (n - 1) / ((n - 2) * (n - 3)) * fourth - adjust if left[2] else 0.0
    expected: dict[str, Any] = {
        "min": ordered[0], "max": ordered[-1], "mean": mean, "var(variance)": variance,
        "std(standard deviation)": None if variance is None else math.sqrt(variance),
        "sem(standard error)": None if variance is None else math.sqrt(variance / n),
        "q1(first quartile)": quantile(Fraction(1, 4)), "q2(second quartile, median)": quantile(Fraction(1, 2)),
        "q3(third quartile)": quantile(Fraction(3, 4)), "sum": power[1], "skew": skew, "kurtosis": kurtosis,
    }  # fmt: skip
    expected |= {f"sum_{k}": power[k] for k in (2, 3, 4)} | {f"moment_{k}": power[k] / n for k in (2, 3, 4)}
    expected |= {f"central_moment_{k}": left[k] / n for k in (2, 3, 4)}
    largest = max(abs(float(v)) for v in values)
    spread = max(abs(float(v - mean)) for v in values)
    # The size of what is added up, of which float64 keeps 15 digits; of whole numbers sums are rounded once
    units = dict.fromkeys(expected, largest) | {"skew": 1.0, "kurtosis": 1.0, "sum": n * largest}
    units |= {"var(variance)": spread**2, "std(standard deviation)": spread, "sem(standard error)": spread}
    units |= {f"sum_{k}": n * largest**k for k in (2, 3, 4)} | {f"moment_{k}": largest**k for k in (2, 3, 4)}
    units |= {f"central_moment_{k}": spread**k for k in (2, 3, 4)}
    rounding = 1e-16 * largest / spread if spread else 0.0  # of a number before the mean is taken from it
    for name, right in expected.items():
        if right is None:
            assert told[name] is None, name
            continue
        around = name.startswith(("central", "var", "std", "sem", "skew", "kurtosis"))
        tolerance = (1e-11 + (100 * n * rounding if around else 0.0)) * units[name]
        assert abs(told[name] - float(right)) <= tolerance, (name, told[name], float(right))
