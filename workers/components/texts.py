"""Descriptions that SecretFlow's registry lacks: parts of messages, and attributes described only by their name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_TYPE = "What it is: a number or text given here (CONST_INT, CONST_FLOAT, CONST_STR), or a COLUMN of the input"


def _value(path: str, what: str) -> dict[str, str]:
    """Return the description of a value, which is one of four things."""
    return {
        path: what,
        f"{path}.type": f"{_TYPE}. INVAL is refused",
        f"{path}.column_name": "The column, for COLUMN",
        f"{path}.i": "The number, for CONST_INT",
        f"{path}.f": "The number, for CONST_FLOAT",
        f"{path}.s": "The text, for CONST_STR",
    }


#: Descriptions by component, and by path within its attributes, or input and column.
TEXTS: dict[str, dict[str, str]] = {
    "io/data_source": {"party": "Party that has the table"},
    "io/write_data": {
        "write_data": "The text in which io/read_data shows a rule or model, with your changes. A rule and an ss_glm "
        "model keep the modelHash of the one that is read. An sgb model may be written by hand; its predictions then "
        "have no label",
    },
    "postprocessing/score_card_transformer": {
        "input_ds.predict_name": "The column of predictions, from 0 to 1",
        "predict_score_name": "Name of the new column of scores",
    },
    "preprocessing/case_when": {
        "rules.whens": "The cases, tried in this order: the first whose conditions hold gives the new column's value",
        "rules.whens.conds": "The conditions of this case",
        "rules.whens.conds.cond_column": "The column that is compared",
        "rules.whens.conds.op": "Comparison: equal, not equal, less than, less or equal, greater than, greater or "
        "equal. INVAL is refused",
        **_value("rules.whens.conds.cond_value", "What the column is compared with"),
        "rules.whens.connections": "How each condition is joined to the next one: one entry less than conditions. "
        "INVAL is refused",
        **_value("rules.whens.then", "The new column's value where the conditions hold"),
        **_value("rules.else_value", "The new column's value where no case holds"),
        "rules.output_column": "Name of the new column",
        "rules.float_epsilon": "Numbers that differ by less are equal; has to be given, between 0 and 1",
        "rules.as_label": "The new column is a label",
    },
    "preprocessing/feature_calculate": {
        "rules.op": "What is done to each column: the numbers' STANDARDIZE (mean 0, deviation 1), NORMALIZATION (from "
        "0 to 1), RANGE_LIMIT, UNARY, RECIPROCAL, ROUND, LOG_ROUND, SQRT, LOG or EXP, a text's LENGTH or SUBSTR. "
        "INVAL is refused",
        "rules.operands": "RANGE_LIMIT: smallest and largest. UNARY: + or - (which side the column is on), an operator "
        "(+ - * /), a number. LOG_ROUND: what is added first. LOG: the base (a number or e) and what is added first. "
        "SUBSTR: start and length. None for the others",
        "rules.new_col_name": "Not used by SecretFlow: the columns keep their names",
    },
    "stats/groupby_statistics": {
        "aggregation_config.column_queries": "Figures to compute for each group",
        "aggregation_config.column_queries.function": "Which figure; INVAL is refused",
        "aggregation_config.column_queries.column_name": "Column of the figure, none that makes the groups",
    },
}


def tell(component: str, entry: Mapping[str, Any]) -> None:
    """Add these descriptions to a component's entry of the registry, as ``help``."""
    texts = TEXTS.get(component, {})
    for path, part in _parts(entry["attributes"]):
        if path in texts:
            part["help"] = texts[path]
    for given in entry["inputs"]:
        for path, part in _parts(given["columns"], f"{given['name']}."):
            if path in texts:
                part["help"] = texts[path]


def _parts(entries: list[dict[str, Any]], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for entry in entries:
        path = f"{prefix}{entry['name']}"
        yield path, entry
        yield from _parts(entry.get("fields") or entry.get("options") or [], f"{path}.")
