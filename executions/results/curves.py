"""Curves of a model, made of its bins: the rows by falling prediction (``workers/executors/metrics.py``).

A curve goes through one point a bin, so it lies at or below the curve of single rows; the metrics are of all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from django.utils.translation import gettext

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
        title=gettext("KS curve"),
        text=gettext(
            "The rates are farthest apart, {gap:.3f}, within the {share:.0%} of rows with the highest predictions."
        ).format(gap=gaps[at], share=share[at]),
        columns=[
            gettext("Share of rows"),
            gettext("True positive rate"),
            gettext("False positive rate"),
            gettext("Difference"),
        ],
        rows=[list(row) for row in zip(share, found, alarms, gaps, strict=True)],
        across=gettext("Share of rows, highest predictions first"),
        up=gettext("Share found"),
        curves=[
            (gettext("True positive rate"), [(0.0, 0.0), *zip(share, found, strict=True)], False),
            (gettext("False positive rate"), [(0.0, 0.0), *zip(share, alarms, strict=True)], False),
        ],
        is_unit=True,
        is_folded=True,
    )
    lift = [f / s for f, s in zip(found, share, strict=True)]
    yield Chart(
        title=gettext("Lift"),
        text=gettext(
            "Among the {share:.0%} of rows with the highest predictions, positives are {lift:.2f} "
            "times as frequent as among all."
        ).format(share=share[0], lift=lift[0]),
        columns=[gettext("Share of rows"), gettext("Lift"), gettext("Share of positives found")],
        rows=[list(row) for row in zip(share, lift, found, strict=True)],
        across=gettext("Share of rows, highest predictions first"),
        up=gettext("Lift"),
        curves=[
            (gettext("Lift"), list(zip(share, lift, strict=True)), False),
            (gettext("No model"), [(0.0, 1.0), (1.0, 1.0)], True),
        ],
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
            title=gettext("Confusion matrix"),
            text=gettext("Rows with a prediction above the threshold count as predicted positives."),
            columns=[
                gettext("Threshold"),
                gettext("True positives"),
                gettext("False positives"),
                gettext("False negatives"),
                gettext("True negatives"),
            ],
            rows=matrices,
            is_folded=True,
        )


def _roc(points: Points) -> Chart:
    whole = [(0.0, 0.0), *points]
    return Chart(
        title=gettext("ROC curve"),
        text=gettext("The farther the curve is above the diagonal, the better the model tells the classes apart."),
        columns=[gettext("False positive rate"), gettext("True positive rate")],
        rows=whole,
        across=gettext("False positive rate"),
        up=gettext("True positive rate"),
        curves=[(gettext("Model"), whole, False), (gettext("Chance"), [(0.0, 0.0), (1.0, 1.0)], True)],
        is_unit=True,
        is_folded=True,
    )


def calibration(points: Points) -> Chart:
    """Return the calibration curve through points of mean prediction and rate of positives."""
    points = sorted(points)
    return Chart(
        title=gettext("Calibration"),
        text=gettext("Where predictions are right as probabilities, the curve lies on the diagonal."),
        columns=[gettext("Mean prediction"), gettext("Rate of positives")],
        rows=points,
        across=gettext("Mean prediction"),
        up=gettext("Rate of positives"),
        curves=[(gettext("Model"), points, False), (gettext("Calibrated"), [(0.0, 0.0), (1.0, 1.0)], True)],
        is_unit=all(0 <= value <= 1 for point in points for value in point),
        is_folded=True,
    )


def of_regression(bins: Sequence[Sequence[Any]]) -> Iterator[Block]:
    """Yield the residuals by prediction, of bins of ``rows``, mean ``prediction``, mean ``label`` and ``rmse``."""
    if not _are_bins(bins, size=0):
        return
    rows = [[row[1], row[2], row[1] - row[2], row[3], row[0]] for row in reversed(bins)]
    yield Chart(
        title=gettext("Residuals"),
        text=gettext(
            "Prediction less label, the mean of each bin of rows with similar predictions. A pattern says that the "
            "model misses something."
        ),
        columns=[
            gettext("Mean prediction"),
            gettext("Mean label"),
            gettext("Mean residual"),
            "RMSE",
            gettext("Rows"),
        ],
        rows=rows,
        across=gettext("Mean prediction"),
        up=gettext("Mean residual"),
        curves=[(gettext("Mean residual"), [(row[0], row[2]) for row in rows], False)],
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
