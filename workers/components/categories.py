"""Counts of texts by ``stats_psi`` in which each row is somewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.components.patching import replace_once


def count_all_rows() -> None:
    """Count a text that the rule does not know among the rows without a bin, and the text nan as a text.

    SecretFlow leaves the first out of all shares, so that a table of new texts alone looks like the old one, and takes
    the second for an empty cell. May be called again.
    """
    from secretflow.component.stats import stats_psi

    replace_once(stats_psi, "get_bin_counts_one_feature", _counting_texts)


def _counting_texts(count: Any) -> Any:
    def counted(rule: Mapping[str, Any], feature: str, frame: Any) -> list[list[Any]]:
        rows: list[list[Any]] = count(rule, feature, frame)
        if rule["type"] != "numeric":
            found = frame[feature].value_counts().to_dict()
            for row, category in zip(rows, rule["categories"], strict=False):
                row[2] = str(found.get(category, 0))
            rows[-1][2] = str(len(frame) - sum(int(row[2]) for row in rows[:-1]))
        return rows

    return counted
