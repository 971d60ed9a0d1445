"""Warnings about a model that was trained but is useless."""

from __future__ import annotations

from typing import Any

from workers.computing.context import Context

#: If predictions are further from the label than this many times the label's range, the training diverged.
_FAR = 10.0


def warn_of_model(context: Context, party: str, label: Any, predictions: Any, is_classification: bool) -> None:
    """Warn all parties if a model is useless, going by its predictions for rows whose label is known.

    ``label`` and ``predictions``: (rows,), only at ``party``.
    """
    import secretflow as sf

    context.warnings += sf.reveal(sf.PYU(party)(doubts)(label, predictions, is_classification))


def doubts(label: Any, predictions: Any, is_classification: bool) -> list[str]:
    """Return why the model is useless, and what to change; nothing if it predicts better than a constant."""
    import numpy as np

    y, p = np.asarray(label, float).ravel(), np.asarray(predictions, float).ravel()
    if len(y) < 2 or y.min() == y.max():
        return []
    spread = float(y.max() - y.min())
    if not np.isfinite(p).all() or np.abs(p - y.mean()).max() > _FAR * spread:
        return [
            f"The training diverged: there are predictions of up to {_greatest(p):.3g} for a label between "
            f"{y.min():.3g} and {y.max():.3g}. Set standardize to true, or lower the learning_rate."
        ]
    if np.ptp(p) < 1e-6 * spread:
        return [
            f"All predictions are equal ({p[0]:.3g}), so the model tells nothing. Set standardize to true, train for "
            "more epochs or with smaller batches, and check that the features have to do with the label."
        ]
    if is_classification and _auc(y, p) <= 0.5:
        return [
            f"The model ranks rows no better than chance (AUC {_auc(y, p):.2f}). {_MORE}, and check that the features "
            "have to do with the label."
        ]
    error, constant = float(np.mean((p - y) ** 2)), float(np.var(y))
    if error >= constant:
        better = f"the share of ones, {y.mean():.3g}," if is_classification else f"the label's mean, {y.mean():.3g},"
        return [
            f"The predictions are {'further' if error > constant else 'as far'} from the label "
            f"{'than' if error > constant else 'as'} {better} for every row would be "
            f"(mean squared error {_apart(error, constant)}). {_MORE}."
        ]
    return []


_MORE = "Train for more epochs or with smaller batches, set standardize to true, or change the learning_rate"


def _apart(one: float, other: float) -> str:
    """Return both numbers, with enough digits to see the difference."""
    if one == other:
        return f"{one:.3g} for both"
    for digits in range(3, 17):
        said = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if said[0] != said[1]:
            break
    return f"{said[0]} against {said[1]}"


def _greatest(values: Any) -> float:
    import numpy as np

    return float(np.abs(values[np.isfinite(values)]).max(initial=0))


def _auc(label: Any, score: Any) -> float:
    from sklearn import metrics

    return float(metrics.roc_auc_score(label, score)) if set(label.tolist()) == {0.0, 1.0} else 1.0
