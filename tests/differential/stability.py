"""``stability``: bins that tell apart what the base table has much of, and the index of their shares."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import NUMBERS, Case, Output, column, number, the_same_at_all

BINS = 5


def case_of(base: Any, test: Any, bins: int = BINS, method: str = "quantile") -> Case:
    """``base`` and ``test``: party to its one column ``x``."""
    tables = {"rows": {p: {"x": c} for p, c in base.items()}, "later": {p: {"x": c} for p, c in test.items()}}
    task = {
        "task_type": "stability",
        "data_sources": dict.fromkeys(base, "rows"),
        "further_sources": {"test": dict.fromkeys(base, "later")},
        "algorithm_params": {"stability_params": {"columns": {p: ["x"] for p in base}, "bins": bins, "method": method}},
    }
    return Case(tables, task, tuple(base))


@st.composite
def strategy(draw: Any) -> Case:
    made: list[dict[str, Any]] = [{}, {}]
    for party in ("alice", "bob"):
        kind = draw(st.sampled_from(NUMBERS))
        for table in made:
            table[party] = draw(column(draw(st.integers(1, 40)), kind))
            assume(not all(math.isnan(number(cell)) for cell in table[party]))
    return case_of(made[0], made[1], draw(st.integers(2, 12)), draw(st.sampled_from(("quantile", "eq_range"))))


def examples() -> list[Case]:
    def ones(share: float) -> list[str]:
        return ["1"] * round(1000 * share) + ["0"] * round(1000 * (1 - share))

    return [
        case_of({"alice": ones(0.05), "bob": ones(0.95)}, {"alice": ones(0.6), "bob": ones(0.4)}, bins=10),
        case_of({"alice": ["5"] * 9, "bob": ["1", "2"]}, {"alice": ["7"] * 9, "bob": ["1"]}),
    ]


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    params = case.task["algorithm_params"]["stability_params"]
    total, *columns = the_same_at_all(answers, "reports")["report"]
    told = dict(total["tables"][0]["rows"])
    for party, report in zip(case.parties, columns, strict=True):
        base, test = (np.array([number(c) for c in case.cells(party, "x", name)]) for name in ("rows", "later"))
        rows, index = report["tables"][0]["rows"], 0.0
        ends = [tuple(map(float, row[0].strip("(]").split(", "))) for row in rows[:-1]]
        assert (ends[0][0], ends[-1][1]) == (-math.inf, math.inf)
        assert all(before[1] == after[0] for before, after in pairwise(ends))
        for row, (low, high) in zip(rows, [*ends, (math.nan, math.nan)], strict=True):
            was, now = (
                float(np.mean(np.isnan(v) if math.isnan(low) else (v > low) & (v <= high))) for v in (base, test)
            )
            assert row[2:] == [was, now]
            least = 0.0 if was and now else 0.001
            then, later = max(was, least), max(now, least)
            part = (later - then) * math.log(later / then) if was or now else 0.0
            assert math.isclose(row[1], part, abs_tol=1e-12)  # a few float64 operations on numbers up to 7
            index += part
        assert math.isclose(told[f"{party}.x"], index, abs_tol=1e-11)
        if params["method"] == "quantile":
            _check_bins(base[~np.isnan(base)], ends, params["bins"])


def _check_bins(base: Any, ends: list[tuple[float, float]], bins: int) -> None:
    """A number of two bins' share has a bin of its own, and no bin is much larger than its share but for such a one."""
    times = Counter(base.tolist())
    for value, count in times.items():
        low, high = next(pair for pair in ends if pair[0] < value <= pair[1])
        together = [other for other in times if low < other <= high]
        if count > 2 * len(base) / bins + 1 or len(times) <= bins:
            assert together == [value]
        if together != [value]:
            # Numbers that are themselves in fewer rows: two ends, each of at most two shares and a row
            assert sum(times[other] for other in together) <= 4 * len(base) / bins + 2
