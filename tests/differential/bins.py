"""SecretFlow's ``vert_binning`` and ``vert_woe_binning`` as components, and their rules by ``substitution``, by pandas.

Each cell is compared: which bin it is in, or its weight of evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import assume
from hypothesis import strategies as st

from tests.differential.cases import KINDS, NUMBERS, Case, Output, column, is_empty, kind_found, number
from tests.differential.encodings import PARTIES, Tables, is_text, read, ruled

WOE = "preprocessing/vert_woe_binning"
#: What SecretFlow writes for a row without a bin.
NO_BIN = -1.0


class Unclear(Exception):
    """Two ways to merge bins are as good as each other."""


def case_of(tables: Tables, component: str, attributes: Mapping[str, Any]) -> Case:
    """A column's name begins with its kind; ``key`` is left as it is. With a table ``other`` the rule is done to it."""
    features = {party: [name for name in mine if name != "y"] for party, mine in tables["rows"].items()}
    chosen = [name for mine in features.values() for name in mine if not name.startswith("key")]
    columns: dict[str, Any] = {"features": features, "select": {"feature_selects": chosen}}
    if component == WOE:
        columns["labels"] = {"bob": ["y"]}
    params = {"component": component, "columns": {"input_ds": columns}, "attributes": dict(attributes)}
    return ruled(tables, params, features)


@st.composite
def strategy(draw: Any) -> Case:
    component = draw(st.sampled_from(("preprocessing/vert_binning", WOE)))
    sizes = {"rows": draw(st.integers(2, 40))}
    if draw(st.booleans()):
        sizes["other"] = draw(st.integers(1, 20))
    tables: dict[str, dict[str, dict[str, list[str]]]] = {dataset: {} for dataset in sizes}
    for party in PARTIES:
        kind = draw(st.sampled_from([kind for kind in KINDS if kind != "bool"]))
        name = f"{kind}_{party[0]}"
        for dataset, rows in sizes.items():
            cells = draw(column(rows, kind))
            if dataset == "other":
                near = draw(st.lists(st.sampled_from(tables["rows"][party][name]), min_size=rows, max_size=rows))
                mixed = draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
                cells = [a if m else b for a, b, m in zip(near, cells, mixed, strict=True)]
            tables[dataset][party] = {name: cells, f"key_{party[0]}": [f"{party[0]}{row}" for row in range(rows)]}
            assume(kind_found(cells, kind) == kind)
            assume(kind in NUMBERS or is_text(cells, kind))
        found = (
            {number(cell) for cell in tables["rows"][party][name] if not is_empty(cell, kind)}
            if kind in NUMBERS
            else {0, 1}
        )
        assume(len(found) > 1)  # one value alone is refused
    attributes: dict[str, Any] = {"bin_num": draw(st.integers(2, 12))}
    attributes["binning_method"] = draw(
        st.sampled_from(("quantile", "eq_range", "chimerge") if component == WOE else ("quantile", "eq_range"))
    )
    if component == WOE:
        yes = draw(st.sampled_from(("1", "yes")))
        others = ("0", "2") if yes == "1" else ("no", "maybe")
        label = draw(st.lists(st.sampled_from((yes, yes, *others)), min_size=sizes["rows"], max_size=sizes["rows"]))
        assume(0 < label.count(yes) < len(label))
        tables["rows"]["bob"]["y"] = label
        attributes |= {"positive_label": yes, "secure_device_type": draw(st.sampled_from(("spu", "spu", "heu")))}
        if attributes["binning_method"] == "chimerge":
            attributes |= {
                "chimerge_init_bins": draw(st.integers(6, 20)),
                "chimerge_target_bins": draw(st.integers(2, 5)),
            }
            attributes["chimerge_target_pvalue"] = draw(st.sampled_from((0.1, 0.5)))
    return case_of(tables, component, attributes)


def examples() -> list[Case]:
    # One bin alone: SecretFlow left the column's own values there
    rare = ["0"] * 9 + ["700"]
    tables = {
        "rows": {
            "alice": {"int_a": rare, "key_a": [f"a{row}" for row in range(10)]},
            "bob": {"float_b": [f"{row}.5" for row in range(10)], "key_b": [f"b{row}" for row in range(10)]},
        },
        "other": {
            "alice": {"int_a": ["5", "", "900"], "key_a": ["a0", "a1", "a2"]},
            "bob": {"float_b": ["0.5", "", "20.5"], "key_b": ["b0", "b1", "b2"]},
        },
    }
    labelled = {**tables, "rows": {**tables["rows"], "bob": tables["rows"]["bob"] | {"y": list("0101010011")}}}
    return [
        case_of(tables, "preprocessing/vert_binning", {"binning_method": "quantile", "bin_num": 4}),
        case_of(labelled, WOE, {"binning_method": "quantile", "bin_num": 4}),
    ]


def check(case: Case, answers: Mapping[str, Any], output: Output) -> None:
    first = case.before[0] if case.before else case.task
    params = first["algorithm_params"]["component_params"]
    attributes = params["attributes"]
    label = None
    if params["component"] == WOE:
        positive = attributes.get("positive_label", "1")
        label = np.array([cell == positive for cell in case.cells("bob", "y")])
    for party in PARTIES:
        cells_of = case.tables["rows"][party]
        name, key = next(iter(cells_of)), f"key_{party[0]}"
        try:
            rule = Rule(cells_of[name], name.partition("_")[0], attributes, label)
        except Unclear:
            continue
        for dataset, made in (("rows", "made"), ("other", "by_rule")):
            if dataset in case.tables:
                rows = read(output(party, made))
                assert [row[key] for row in rows] == case.cells(party, key, dataset)
                expected = [rule.value(cell) for cell in case.cells(party, name, dataset)]
                # SecretFlow keeps weights in float32
                assert np.allclose([float(row[name]) for row in rows], expected, rtol=1e-6, atol=1e-7), (name, dataset)


class Rule:
    """What becomes of a column's cells. ``label``: the rows that are positive, for weights of evidence."""

    def __init__(self, cells: list[str], kind: str, attributes: Mapping[str, Any], label: Any) -> None:
        self._kind, method = kind, attributes["binning_method"]
        if kind in NUMBERS:
            known = pd.Series([number(cell) for cell in cells])
            count = attributes["chimerge_init_bins" if method == "chimerge" else "bin_num"]
            cut = pd.cut if method == "eq_range" else pd.qcut
            places, edges = cut(known, count, labels=False, duplicates="drop", retbins=True)
            filled = sorted(int(place) for place in places.dropna().unique())
            #: The right end of each bin that has rows.
            self._ends: Any = np.array([edges[place + 1] for place in filled])
            self._ends[-1] = np.inf
        else:
            self._ends = sorted({cell for cell in cells if not is_empty(cell, kind)})
        if label is None:
            self._values = [float(index) for index in range(len(self._ends))]
            self._none = NO_BIN
            return
        where = np.array([self._place(cell) for cell in cells])
        if method == "chimerge" and kind in NUMBERS:
            self._merge(where, label, attributes)
            where = np.array([self._place(cell) for cell in cells])
        self._values = [_weight(label, where == index) for index in range(len(self._ends))]
        self._none = _weight(label, where == -1)

    def value(self, cell: str) -> float:
        place = self._place(cell)
        return self._none if place == -1 else self._values[place]

    def _place(self, cell: str) -> int:
        """The bin; -1 of none."""
        if is_empty(cell, self._kind):
            return -1
        if self._kind in NUMBERS:
            return int(np.searchsorted(self._ends, number(cell), side="left"))
        return self._ends.index(cell) if cell in self._ends else -1

    def _merge(self, where: Any, label: Any, attributes: Mapping[str, Any]) -> None:
        """ChiMerge: the two neighbours whose labels are most alike become one, again and again. Raises Unclear."""
        from scipy.stats import chi2

        most = chi2.ppf(1 - attributes["chimerge_target_pvalue"], df=1)
        ends = list(self._ends)
        counts = [(int(label[where == i].sum()), int((~label[where == i]).sum())) for i in range(len(ends))]
        while len(counts) > attributes["chimerge_target_bins"]:
            unlike = [_chi(a, b) for a, b in pairwise(counts)]
            least = min(unlike)
            close = [index for index, found in enumerate(unlike) if abs(found - least) < 1e-9]
            if abs(least - most) < 1e-9 or (len(close) > 1 and least > 0):
                raise Unclear
            if least > most:
                break
            at = close[0]
            counts[at : at + 2] = [tuple(map(sum, zip(*counts[at : at + 2], strict=True)))]  # type: ignore[list-item]
            del ends[at]
        self._ends = np.array(ends)


def _chi(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Of the table of two bins and two labels; 0 where both have one label alone."""
    (a, b), (c, d) = first, second
    if not (a + c and b + d):
        return 0.0
    return (a * d - b * c) ** 2 * (a + b + c + d) / ((a + b) * (c + d) * (a + c) * (b + d))


def _weight(label: Any, inside: Any) -> float:
    """With a half of a row added to each where one of them has none, as SecretFlow does."""
    yes, no = int((label & inside).sum()), int((~label & inside).sum())
    added = 0.0 if yes and no else 0.5
    return math.log((yes + added) / label.sum() / ((no + added) / (~label).sum()))
