"""Makes binning handle columns with a single bin.

If a column has a single bin, as when nine in ten rows have the same value, SecretFlow leaves the column's own values in
the output, beside columns of bin numbers or of weights of evidence. Here the column gets the value of its one bin.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from workers.components.patching import replace_once


def fill_single_bins() -> None:
    """Have binning rules put a column of a single bin into that bin. May be called again."""
    from secretflow.component.preprocessing.binning import base

    replace_once(base, "apply_binning_rules", _with_single_bins)


def _with_single_bins(apply: Any) -> Any:
    def applied(rules: Mapping[str, Any], table: Any) -> Any:
        return apply({**rules, "variables": [_split(rule) for rule in rules["variables"]]}, table)

    return applied


def _split(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the rule with a split point above all numbers for a column that has none."""
    if rule["type"] != "numeric" or len(rule["split_points"]):
        return rule
    return {**rule, "split_points": [sys.float_info.max], "filling_values": list(rule["filling_values"]) * 2}
