"""How good predictions are, computed where label and predictions are; only the figures leave that party."""

from __future__ import annotations

from typing import Any

from workers.executors.base import Session

#: Shares of the rows, those with the highest predictions first, for which the lift is told.
LIFT_AT = (0.1, 0.2, 0.5)


def measured(session: Session, party: str, label: Any, predictions: Any, is_classification: bool) -> dict[str, float]:
    """The metrics, told to all parties. ``label`` and ``predictions``: (rows,), at ``party`` alone."""
    import secretflow as sf

    measure = classification if is_classification else regression
    found: dict[str, float] = sf.reveal(sf.PYU(party)(measure)(label, predictions))
    return found


def classification(label: Any, score: Any) -> dict[str, float]:
    """For a label of 0 and 1 and a score: AUC, KS, accuracy at 0.5, and lift of the rows with the highest scores."""
    import numpy as np
    from sklearn import metrics

    y, p = np.asarray(label, float).ravel(), np.asarray(score, float).ravel()
    no, yes, _ = metrics.roc_curve(y, p)
    best_first = y[np.argsort(-p, kind="stable")]
    lift = {
        f"lift_{share:.0%}": float(best_first[: max(1, round(share * len(y)))].mean() / y.mean()) for share in LIFT_AT
    }
    return {
        "auc": float(metrics.roc_auc_score(y, p)),
        "ks": float(np.max(yes - no)),
        "accuracy": float(metrics.accuracy_score(y, p >= 0.5)),
    } | lift


def regression(label: Any, prediction: Any) -> dict[str, float]:
    """R squared, and the errors: root of the mean square, mean absolute, and mean (bias)."""
    import numpy as np
    from sklearn import metrics

    y, p = np.asarray(label, float).ravel(), np.asarray(prediction, float).ravel()
    return {
        "r2": float(metrics.r2_score(y, p)),
        "rmse": float(np.sqrt(metrics.mean_squared_error(y, p))),
        "mae": float(metrics.mean_absolute_error(y, p)),
        "bias": float(np.mean(p - y)),
    }
