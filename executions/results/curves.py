"""Curves of a model, made of its bins: the rows by falling prediction (``workers/executors/metrics.py``).

A curve goes through one point a bin, so it lies at or below the curve of single rows; the metrics are of all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from executions.results.blocks import Block, Chart, Confusion
from executions.results.figures import is_number

Points = list[tuple[float, float]]


def of_classification(bins: Sequence[Sequence[Any]]) -> Iterator[Block]:
    """Yield ROC, KS, lift and calibration curves and the confusion matrix at each threshold, of bins of ``from``,
    ``rows``, ``positives`` and mean ``prediction``. Yields nothing unless the bins hold both classes."""
    if not _are_bins(bins, size=1):
        return
    sizes, yes = list(accumulate(row[1] for row in bins)), list(accumulate(row[2] for row in bins))
    rows, positives = sizes[-1], yes[-1]
    negatives = rows - positives
    if not (positives > 0 and negatives > 0):
        return
    found = [y / positives for y in yes]
    alarms = [(size - y) / negatives for size, y in zip(sizes, yes, strict=True)]
    share = [size / rows for size in sizes]
    yield _roc(list(zip(alarms, found, strict=True)))
    gaps = [abs(f - a) for f, a in zip(found, alarms, strict=True)]
    at = max(range(len(gaps)), key=gaps.__getitem__)
    yield Chart(
        title="KS curve",
        text=f"The rates are farthest apart, {gaps[at]:.3f}, within the {share[at]:.0%} of rows with the highest "
        "predictions.",
        columns=["Share of rows", "True positive rate", "False positive rate", "Difference"],
        rows=[list(row) for row in zip(share, found, alarms, gaps, strict=True)],
        across="Share of rows, highest predictions first",
        up="Share found",
        curves=[
            ("True positive rate", [(0.0, 0.0), *zip(share, found, strict=True)], False),
            ("False positive rate", [(0.0, 0.0), *zip(share, alarms, strict=True)], False),
        ],
        is_unit=True,
        is_folded=True,
    )
    lift = [f / s for f, s in zip(found, share, strict=True)]
    yield Chart(
        title="Lift",
        text=f"Among the {share[0]:.0%} of rows with the highest predictions, positives are {lift[0]:.2f} times as "
        "frequent as among all.",
        columns=["Share of rows", "Lift", "Share of positives found"],
        rows=[list(row) for row in zip(share, lift, found, strict=True)],
        across="Share of rows, highest predictions first",
        up="Lift",
        curves=[("Lift", list(zip(share, lift, strict=True)), False), ("No model", [(0.0, 1.0), (1.0, 1.0)], True)],
        is_folded=True,
    )
    if all(0 <= row[3] <= 1 for row in bins):
        yield calibration([(row[3], row[2] / row[1]) for row in bins])
    matrices = [
        [row[0], y, size - y, positives - y, negatives - (size - y)]
        for row, y, size in zip(bins, yes, sizes, strict=True)
        if row[0] is not None
    ]
    if matrices:
        yield Confusion(
            title="Confusion matrix",
            text="Rows with a prediction above the threshold count as predicted positives.",
            columns=["Threshold", "True positives", "False positives", "False negatives", "True negatives"],
            rows=matrices,
            is_folded=True,
        )


def _roc(points: Points) -> Chart:
    whole = [(0.0, 0.0), *points]
    return Chart(
        title="ROC curve",
        text="The farther the curve is above the diagonal, the better the model tells the classes apart.",
        columns=["False positive rate", "True positive rate"],
        rows=whole,
        across="False positive rate",
        up="True positive rate",
        curves=[("Model", whole, False), ("Chance", [(0.0, 0.0), (1.0, 1.0)], True)],
        is_unit=True,
        is_folded=True,
    )


def calibration(points: Points) -> Chart:
    """Return the calibration curve through points of mean prediction and rate of positives."""
    points = sorted(points)
    return Chart(
        title="Calibration",
        text="Where predictions are right as probabilities, the curve lies on the diagonal.",
        columns=["Mean prediction", "Rate of positives"],
        rows=points,
        across="Mean prediction",
        up="Rate of positives",
        curves=[("Model", points, False), ("Calibrated", [(0.0, 0.0), (1.0, 1.0)], True)],
        is_unit=all(0 <= value <= 1 for point in points for value in point),
        is_folded=True,
    )


def of_regression(bins: Sequence[Sequence[Any]]) -> Iterator[Block]:
    """Yield the residuals by prediction, of bins of ``rows``, mean ``prediction``, mean ``label`` and ``rmse``."""
    if not _are_bins(bins, size=0):
        return
    rows = [[row[1], row[2], row[1] - row[2], row[3], row[0]] for row in reversed(bins)]
    yield Chart(
        title="Residuals",
        text="Prediction less label, the mean of each bin of rows with similar predictions. A pattern says that the "
        "model misses something.",
        columns=["Mean prediction", "Mean label", "Mean residual", "RMSE", "Rows"],
        rows=rows,
        across="Mean prediction",
        up="Mean residual",
        curves=[("Mean residual", [(row[0], row[2]) for row in rows], False)],
        is_bars=True,
        is_folded=True,
    )


def _are_bins(bins: Sequence[Sequence[Any]], size: int) -> bool:
    """Return whether they are two bins or more, each of four numbers (the first may be none), with a positive one at
    ``size``: a party wrote them."""
    return len(bins) > 1 and all(
        len(row) == 4
        and (row[0] is None or is_number(row[0]))
        and all(is_number(cell) for cell in row[1:])
        and (row[size] or 0) > 0
        for row in bins
    )
