"""``stats/stats_psi`` as a component: the stability of each column and bin, from counts in the clear."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import Case, Output, column, is_empty, kind_found, number, the_same_at_all
from tests.differential.encodings import PARTIES, Tables, is_text, keeping_rule

#: What SecretFlow takes for the share of a bin without rows.
LEAST = 1e-3
KINDS = ("int", "float", "text")


def case_of(tables: Tables, count: int, method: str) -> Case:
    """The bins are made of ``rows``, which are compared with ``other``. A column's name begins with its kind."""
    features = {party: list(mine) for party, mine in tables["rows"].items()}
    binning = keeping_rule(
        {
            "component": "preprocessing/vert_binning",
            "columns": {"input_ds": {"features": features}},
            "attributes": {"bin_num": count, "binning_method": method},
        }
    )
    columns = {"input_base_ds": {"features": features}, "input_test_ds": {"features": features}}
    task = {
        "task_type": "component",
        "data_sources": dict.fromkeys(PARTIES, "rows"),
        "further_sources": {
            "input_test_ds": dict.fromkeys(PARTIES, "other"),
            "input_rule": dict.fromkeys(PARTIES, "rule"),
        },
        "algorithm_params": {"component_params": {"component": "stats/stats_psi", "columns": columns}},
    }
    return Case(tables, task, PARTIES, before=[binning])


@st.composite
def strategy(draw: Any) -> Case:
    sizes = {"rows": draw(st.integers(2, 40)), "other": draw(st.integers(1, 40))}
    tables: dict[str, dict[str, dict[str, list[str]]]] = {dataset: {} for dataset in sizes}
    for party in PARTIES:
        kind = draw(st.sampled_from(KINDS))
        name = f"{kind}_{party[0]}"
        base = draw(column(sizes["rows"], kind))
        near = draw(st.lists(st.sampled_from(base), min_size=sizes["other"], max_size=sizes["other"]))
        far = draw(column(sizes["other"], kind))
        mixed = draw(st.lists(st.booleans(), min_size=len(far), max_size=len(far)))
        other = [a if m else b for a, b, m in zip(near, far, mixed, strict=True)]
        for dataset, cells in (("rows", base), ("other", other)):
            assume(kind_found(cells, kind) == kind)
            assume(kind != "text" or is_text(cells, kind))
            tables[dataset][party] = {name: cells}
        assume(kind == "text" or len({number(cell) for cell in base if not is_empty(cell, kind)}) > 1)
    return case_of(tables, draw(st.integers(2, 10)), draw(st.sampled_from(("quantile", "eq_range"))))


def examples() -> list[Case]:
    """The text nan is a value, and was counted as an empty cell; a text that is new was not counted at all."""
    words = {"text_a": ["nan", "nan", "x", ""]}, {"text_a": ["nan", "x", "x", ""]}
    numbers = {"int_b": ["1", "2", "3", "4"]}
    tables = {"rows": {"alice": words[0], "bob": numbers}, "other": {"alice": words[1], "bob": numbers}}
    new = {"text_a": ["new", "new", "x", ""]}
    return [case_of(tables, 2, "eq_range"), case_of({**tables, "other": {"alice": new, "bob": numbers}}, 2, "eq_range")]


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    total, *details = the_same_at_all(answers, "reports")["report"]
    told = dict(total["tables"][0]["rows"])
    attributes = case.before[0]["algorithm_params"]["component_params"]["attributes"]
    names = [(party, name) for party in PARTIES for name in case.tables["rows"][party]]
    assert sorted(told) == sorted(name for _, name in names)
    for party, name in names:
        kind = name.partition("_")[0]
        shares = [_shares(case, party, name, kind, attributes, dataset) for dataset in ("rows", "other")]
        parts = [
            (b - a) * math.log(max(b, LEAST) / max(a, LEAST)) if a or b else 0.0 for a, b in zip(*shares, strict=True)
        ]
        # float64 in the report's float32
        assert math.isclose(told[name], sum(parts), rel_tol=1e-5, abs_tol=1e-6), (name, told[name], sum(parts))
        [detail] = [found for found in details if found["name"] == name]
        rows = [dict(zip(detail["tables"][0]["columns"], row, strict=True)) for row in detail["tables"][0]["rows"]]
        for column_, wanted in (("PSI", parts), ("Base Ratio", shares[0]), ("Test Ratio", shares[1])):
            found = [row[column_] for row in rows]
            assert all(math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-6) for a, b in zip(found, wanted, strict=True))


def _shares(case: Case, party: str, name: str, kind: str, attributes: Mapping[str, Any], dataset: str) -> list[float]:
    """Of each bin, of empty cells last."""
    base, cells = case.cells(party, name), case.cells(party, name, dataset)
    if kind == "text":
        values = sorted({cell for cell in base if cell})
        counts = [cells.count(value) for value in values]
        # The others, empty or not known, have no bin
        return [found / len(cells) for found in (*counts, len(cells) - sum(counts))]
    cut = pd.cut if attributes["binning_method"] == "eq_range" else pd.qcut
    known = pd.Series([number(cell) for cell in base])
    places, edges = cut(known, attributes["bin_num"], labels=False, duplicates="drop", retbins=True)
    ends = [edges[int(place) + 1] for place in sorted(places.dropna().unique())][:-1]
    counts = [0] * (len(ends) + 1)
    for cell in cells:
        if not is_empty(cell, kind):
            counts[sum(number(cell) > end for end in ends)] += 1
    none = sum(is_empty(cell, kind) for cell in cells)
    return [found / len(cells) for found in (*counts, none)]
