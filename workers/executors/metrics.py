"""Metrics of predictions, computed at the party of label and predictions; only the figures leave it."""

from __future__ import annotations

import math
from typing import Any

from workers.computing.context import Context

#: Shares of the rows, highest predictions first, whose lift is told.
LIFT_AT = (0.1, 0.2, 0.5)


def measured(context: Context, party: str, label: Any, predictions: Any, is_classification: bool) -> dict[str, float]:
    """Return the metrics, the same at all parties. ``label`` and ``predictions``: (rows,), only at ``party``. A metric
    without a value is left out, and a warning says why: a bad label must not lose the predictions.
    """
    import secretflow as sf

    measure = classification if is_classification else regression
    found: dict[str, float]
    found, missing = sf.reveal(sf.PYU(party)(measure)(label, predictions))
    context.warnings += [f"{party}: {reason}" for reason in missing]
    return found


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
