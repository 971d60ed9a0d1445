"""Figures and their names, as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

#: Characters of one value that are shown.
MOST_CHARACTERS = 500

_NAMES = {
    "auc": "AUC",
    "ks": "KS",
    "accuracy": _("Accuracy at 0.5"),
    "rmse": "RMSE",
    "mae": "MAE",
    "bias": _("Mean error (bias)"),
    "r2": "R²",
    "psi": "PSI",
    "iv": "IV",
    "vif": "VIF",
    "woe": "WOE",
    "r2_score": "R²",
    "f1_score": "F1",
    "mean_abs_err": _("Mean absolute error"),
    "mean_abs_percent_err": _("Mean absolute percentage error"),
    "mean_squared_errors": _("Mean squared error"),
    "sum_squared_errors": _("Sum of squared errors"),
    "root_mean_squared_errors": "RMSE",
    "y_true_mean": _("Mean label"),
    "y_pred_mean": _("Mean prediction"),
    "total_samples": _("Rows"),
    "positive_samples": _("Positives"),
    "negative_samples": _("Negatives"),
    "num_before_sample": _("Rows before"),
    "num_after_sample": _("Rows after"),
    "report": _("Report"),
    "summaryreport": _("Summary"),
    "eq_frequent_bin_report": _("Bins with equally many rows"),
    "eq_range_bin_report": _("Bins of equal width"),
    "head_report": _("Thresholds by false positive rate"),
    "corr": _("Correlation"),
    "pvalue": "p-value",
    "psi_report": _("Rows by party"),
    "stats psi summary of all selected features": _("Stability (PSI)"),
}
_DECIMALS = re.compile(r"-?\d+\.\d{4,}(e[-+]?\d+)?")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")


#: The order of metrics. PostgreSQL keeps no order of a document's keys.
ORDER = ("auc", "ks", "accuracy", "lift_10%", "lift_20%", "lift_50%", "r2", "rmse", "mae", "bias")


def in_order(metrics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return metrics in the order in which people read them, whatever the order of a document's keys."""
    place = {key: index for index, key in enumerate(ORDER)}
    return sorted(metrics.items(), key=lambda entry: (place.get(entry[0], len(ORDER)), entry[0]))


def name_of(key: str) -> str:
    """Return the name of a figure in words: ``Lift at 10 %`` for ``lift_10%``, ``AUC`` for ``auc``."""
    if key.lower() in _NAMES:
        return str(_NAMES[key.lower()])
    if key.startswith("lift_") and key.endswith("%"):
        return gettext("Lift at {percent} %").format(percent=key[5:-1])
    words = cut(key).replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def shown(value: Any) -> str:
    """Return a value as text: numbers with six digits at most and thousands separated, whole numbers whole, ``yes`` and
    ``no``, and ``-`` for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, int):
        return _whole(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list):
        few = ", ".join(shown(entry) for entry in value[:20])
        return cut(few + (gettext(", and {number:,} more").format(number=len(value) - 20) if len(value) > 20 else ""))
    return cut(str(value))


def _whole(value: int) -> str:
    if abs(value) < 10**30:
        return f"{value:,}"
    return f"{float(value):.3e}" if is_number(value) else gettext("beyond float64")


def _number(value: float) -> str:
    size = abs(value)
    if not math.isfinite(value):
        return str(value)
    if size and (size < 1e-4 or size >= 1e15):
        return f"{value:.3e}"
    text = f"{value:,.2f}" if size >= 1000 else f"{value:,.6f}" if size < 1 else f"{value:.6g}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def cut(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text shortened to what is shown of it."""
    if len(text) <= most:
        return text
    return gettext("{text} ... ({number:,} characters)").format(text=text[:most], number=len(text))


def title_of(name: str) -> str:
    """Return the title of a report: in words where the name is known, else as it is, since it may be a column's."""
    return str(_NAMES.get(name.lower(), cut(name, 100)))


def tidied(label: str) -> str:
    """Return the label of a bin with at most five digits a number: ``(-0.5289, 0.97]``."""
    return _DECIMALS.sub(lambda found: f"{float(found[0]):.5g}", cut(label, 100))


def number_in(value: Any) -> Any:
    """Return the number that a text is, as some components write them; any other value as it is."""
    if isinstance(value, str) and len(value) < 40 and _NUMBER.fullmatch(value):
        return float(value) if set(value) & set(".eE") else int(value)
    return value


def is_number(value: Any) -> bool:
    """Return whether the value is a finite number, within float64."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 10**300 if isinstance(value, int) else math.isfinite(value)
