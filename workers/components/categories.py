"""Makes ``stats_psi`` count every row of a column of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.components.patching import replace_once


def count_all_rows() -> None:
    """Count unknown texts as rows without a bin, and the text nan as a text. SecretFlow leaves unknown texts out of all
    shares, so that a table with only new texts looks like the old one, and takes nan for an empty cell. May be called
    again.
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
