"""What SecretFlow's own components compute wrongly, and what is refused or told of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workers.components.files import Kept
from workers.errors import ConfigError
from workers.executors.base import Source
from workers.tables import WHOLE_LIMIT, column_types, read_text

#: Component to what the result's warnings say.
TOLD = {
    "stats/ss_pearsonr": "SecretFlow's component gives n / (n - 1) times the correlations of n rows; the task type "
    "correlation puts that right.",
    "stats/ss_vif": "SecretFlow's component gives (n - 1) / n times the factors of n rows, and any number for columns "
    "that depend on each other exactly; the task type vif puts both right.",
    "ml.eval/ss_pvalue": "The p-values are those of the model with its own approximation of the sigmoid (sig_type), "
    "which can differ from those of a logistic regression by a factor.",
    "stats/stats_psi": "A column that is mostly one value may be put into a single bin, whose stability is 0 whatever "
    "changed; the task type stability makes bins of their own for such values.",
}


def check_table(component: str, source: Source, columns: list[str], by: list[str]) -> None:
    """Raise ConfigError where the component would compute wrongly with this party's columns.

    ``by``: those that make groups.
    """
    types = column_types(source.path, source.name)
    if component == "stats/groupby_statistics":
        for column in by:
            if types[column] != "str" and any(not value for value in _values(source, column)):
                raise ConfigError(
                    f"column {column!r} of dataset {source.name} has empty values, which this component counts in "
                    "another group; use the task type group_by"
                )
    if component in ("data_filter/sample", "stats/groupby_statistics", "stats/table_statistics"):
        for column in (column for column in columns if types[column] == "int"):
            # Fourth powers are summed up in 64 bits; whole numbers enter the SPU in 32; sampling makes floats of them
            most = {"data_filter/sample": WHOLE_LIMIT, "stats/groupby_statistics": 2.0**31}.get(component, 2.0**12)
            if any(abs(int(value)) >= most for value in _values(source, column) if _is_whole(value)):
                raise ConfigError(
                    f"column {column!r} of dataset {source.name} has whole numbers of {most:.0f} and more, with which "
                    f"this component computes wrongly; {_INSTEAD[component]}"
                )


_INSTEAD = {
    "data_filter/sample": "declare it str in party.toml where it is a code",
    "stats/groupby_statistics": "use the task type group_by",
    "stats/table_statistics": "use the task type table_statistics",
}


def _values(source: Source, column: str) -> Iterator[str]:
    for value in read_text(source.path, source.name, [column])[column].to_pylist():
        yield (value or "").strip()


def _is_whole(value: str) -> bool:
    return value.removeprefix("-").removeprefix("+").isdigit()


def check_model(component: str, name: str, kept: Kept) -> None:
    """Raise ConfigError where a component reads a table's columns by names that the model does not have."""
    if isinstance(kept.record.get("task"), dict) and component.startswith(("ml.predict/", "ml.eval/")):
        raise ConfigError(
            f"{name} was kept by a task type, where columns have names of their own; use the task type predict, or "
            "train the model with a component such as ml.train/ss_sgd_train"
        )


def check_attributes(component: str, attributes: Any) -> str:
    """Return what is wrong with the way of computing that is asked for; empty where nothing is."""
    if component == "ml.train/ss_sgd_train" and attributes.sig_type == "real":
        return "real gives wrong predictions in this version of SecretFlow"
    return ""
