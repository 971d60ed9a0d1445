"""Metrics of predictions, computed at the party of label and predictions; only the figures leave it.

Besides the metrics it tells *bins*: the rows by falling prediction, in at most ``MOST_BINS`` groups of at least
``LEAST_IN_A_BIN`` rows. They are all that curves need: ROC, KS, lift, calibration, the confusion matrix at each
threshold, and a regression's residuals (``executions/results/curves.py``).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from workers.computing.context import Context
from workers.computing.minimum import agreed
from workers.contract.results import MOST_BINS

#: Shares of the rows, highest predictions first, whose lift is told.
LIFT_AT = (0.1, 0.2, 0.5)
#: The fewest rows in a bin, unless a party's policy asks for more: what a bin tells should be of no single row.
LEAST_IN_A_BIN = 10
#: Columns of the bins of a classification, and of a regression. ``from``: the threshold above which the bin lies.
CLASS_BINS = ("from", "rows", "positives", "prediction")
NUMBER_BINS = ("rows", "prediction", "label", "rmse")


def measured(context: Context, party: str, label: Any, predictions: Any, is_classification: bool) -> dict[str, Any]:
    """Return ``metrics`` and, if there are rows enough, ``bins``, the same at all parties. ``label`` and
    ``predictions``: (rows,), only at ``party``. A metric without a value is left out, and a warning says why: a bad
    label must not lose the predictions.
    """
    import secretflow as sf

    least = max(agreed(context).group, LEAST_IN_A_BIN)
    measure = classification if is_classification else regression

    def figures(label: Any, predictions: Any) -> tuple[dict[str, float], list[str], list[list[Any]]]:
        found, missing = measure(label, predictions)
        return found, missing, binned(label, predictions, is_classification, least) if found else []

    found, missing, bins = sf.reveal(sf.PYU(party)(figures)(label, predictions))
    context.warnings += [f"{party}: {reason}" for reason in missing]
    columns = CLASS_BINS if is_classification else NUMBER_BINS
    return {"metrics": found} | ({"bins": {"columns": [*columns], "rows": bins}} if bins else {})


def binned(label: Any, score: Any, is_classification: bool, least: int) -> list[list[Any]]:
    """Return the rows by falling prediction in bins of at least ``least`` rows, which have no prediction in common: for
    each what ``CLASS_BINS`` or ``NUMBER_BINS`` says. Empty if there are fewer rows than two bins take, or a number is
    beyond float64."""
    import numpy as np

    order = np.argsort(-np.asarray(score, float).ravel(), kind="stable")
    y, p = np.asarray(label, float).ravel()[order], np.asarray(score, float).ravel()[order]
    size = max(least, math.ceil(len(p) / MOST_BINS))
    # Rows of one prediction stay together: no threshold lies between them
    changes = np.append(np.flatnonzero(np.diff(p)) + 1, len(p))
    ends = [0]
    while len(p) - ends[-1] >= 2 * size:
        end = int(changes[np.searchsorted(changes, ends[-1] + size)])
        if len(p) - end < size:
            break
        ends.append(end)
    if len(ends) == 1:
        return []
    ends.append(len(p))
    found: list[list[Any]] = []
    for start, end in pairwise(ends):
        mean = float(p[start:end].mean())
        if is_classification:
            # Between two bins: a threshold is no row's own prediction
            below = float((p[end - 1] + p[end]) / 2) if end < len(p) else None
            found.append([below, end - start, int(y[start:end].sum()), mean])
        else:
            with np.errstate(over="ignore"):
                error = p[start:end] - y[start:end]
                rmse = float(np.sqrt(np.mean(error**2)))
            found.append([end - start, mean, float(y[start:end].mean()), rmse])
    is_finite = all(math.isfinite(cell) for row in found for cell in row if cell is not None)
    return found if is_finite else []


def classification(label: Any, score: Any) -> tuple[dict[str, float], list[str]]:
    """Return AUC, KS, accuracy at 0.5 and lift of the rows with the highest scores, for a label of 0 and 1, and why
    metrics are missing. Rows of equal scores have no order: the lift is the mean over all orders of them.
    """
    import numpy as np
    from sklearn import metrics

    y, p = np.asarray(label, float).ravel(), np.asarray(score, float).ravel()
    if problem := unfit(y) or _unusable(p):
        return {}, [f"there are no metrics: {problem}"]
    no, yes, _ = metrics.roc_curve(y, p, drop_intermediate=False)
    found = {"auc": float(metrics.roc_auc_score(y, p)), "ks": float(np.max(np.abs(yes - no)))}
    missing = []
    if p.min() < 0 or p.max() > 1:
        missing.append("there is no accuracy: predictions are not between 0 and 1, so 0.5 divides nothing")
    else:
        found["accuracy"] = float(np.mean(y == (p >= 0.5)))
    found |= {f"lift_{share:.0%}": _lift(y, p, max(1, round(share * len(y)))) for share in LIFT_AT}
    return found, missing


def unfit(label: Any, remedy: str = "numbers are for a regression") -> str:
    """Return why a label (rows,) does not consist of 0 and 1, and what would be right; empty if it does. ``remedy``:
    the advice for a label of numbers.
    """
    import numpy as np

    found = np.unique(label)
    if len(found) < 2:
        return "the label has one class only; needs 0 and 1"
    if not np.isin(found, (0, 1)).all():
        return f"the label has values other than 0 and 1; {remedy}; for no and yes write 0 and 1"
    return ""


def _lift(label: Any, score: Any, count: int) -> float:
    """Return the rate of 1 among the ``count`` highest scores, over that of all: the mean over all orders of ties."""
    import numpy as np

    last = np.sort(score)[-count]
    above, level = score > last, score == last
    hits = label[above].sum() + (count - above.sum()) * label[level].mean()
    return float(hits / count / label.mean())


def regression(label: Any, prediction: Any) -> tuple[dict[str, float], list[str]]:
    """Return R squared and the errors (root mean square, mean absolute, mean), and why metrics are missing."""
    import numpy as np

    y, p = np.asarray(label, float).ravel(), np.asarray(prediction, float).ravel()
    if problem := _unusable(p) or ("" if np.isfinite(y).all() else "the label has values that are no numbers"):
        return {}, [f"there are no metrics: {problem}"]
    with np.errstate(over="ignore"):
        error, around = p - y, y - y.mean()
        found = {
            "rmse": float(np.sqrt(np.mean(error**2))),
            "mae": float(np.mean(np.abs(error))),
            "bias": float(np.mean(error)),
        }
        spread = float(np.sum(around**2))
        r2 = 1 - float(np.sum(error**2)) / spread if y.min() < y.max() and spread else math.nan
    missing = []
    if y.min() == y.max():
        rows = "one row" if len(y) == 1 else "the same value in all rows"
        missing.append(f"there is no r2: the label has {rows}, so nothing that varies could be explained")
    elif math.isfinite(r2):
        found = {"r2": r2, **found}
    else:
        missing.append("there is no r2: the numbers are too large or too near each other for float64; scale the label")
    if beyond := [name for name, value in found.items() if not math.isfinite(value)]:
        missing.append(f"there is no {' and '.join(beyond)}: the errors are beyond float64; scale the label")
    return {name: value for name, value in found.items() if math.isfinite(value)}, missing


def _unusable(predictions: Any) -> str:
    import numpy as np

    if not len(predictions):
        return "there are no rows"
    if wrong := int((~np.isfinite(predictions)).sum()):
        return f"{wrong} of {len(predictions)} predictions are no finite numbers"
    return ""
