"""Boosted trees by the exact greedy search, in the clear."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Two best splits are a tie where their gains differ by less, of the gradients' sum of squares.
TIE = 1e-4


class Tie(Exception):
    """Two ways to split rows are as good as each other: which one is taken is not promised."""


def boosted(
    x: Any,
    y: Any,
    *,
    rounds: int,
    depth: int,
    learning_rate: float,
    reg_lambda: float,
    logistic: bool,
    base: float = 0.0,
    exact: bool = False,
) -> Any:
    """Return the predictions for the rows themselves, (rows,). Raises Tie.

    ``base``: what is predicted without a tree, before the sigmoid.
    ``x``: (rows, columns). ``exact``: with the sigmoid itself, as sgb; otherwise with that of ss_xgb, SecretFlow's
    ``sr``: half of x / sqrt(1 + x^2), and a half.
    """
    found = np.full(len(y), base)
    for _ in range(rounds):
        mean = _sigmoid(found, exact) if logistic else found
        gradient, weight = mean - y, mean * (1 - mean) if logistic else np.ones(len(y))
        for rows in _leaves(x, gradient, weight, np.arange(len(y)), depth, reg_lambda):
            found[rows] -= learning_rate * gradient[rows].sum() / (weight[rows].sum() + reg_lambda)
    return _sigmoid(found, exact) if logistic else found


def _sigmoid(x: Any, exact: bool) -> Any:
    return 1 / (1 + np.exp(-x)) if exact else 0.5 * x / np.sqrt(1 + x * x) + 0.5


def _leaves(x: Any, gradient: Any, weight: Any, rows: Any, depth: int, reg_lambda: float) -> list[Any]:
    """The rows of each leaf below a node that has ``rows``."""
    if depth == 0 or len(rows) < 2:
        return [rows]

    def score(chosen: Any) -> float:
        return float(gradient[chosen].sum() ** 2 / (weight[chosen].sum() + reg_lambda))

    gains = {bytes(np.zeros(len(rows), bool)): 0.0}  # no split
    for column in x[rows].T:
        for bound in np.unique(column)[1:]:
            left = column < bound
            gains[bytes(left)] = score(rows[left]) + score(rows[~left]) - score(rows)
    (best, gain), *others = sorted(gains.items(), key=lambda entry: -entry[1])
    mirrored = bytes(~np.frombuffer(best, bool))
    scale = TIE * float((gradient**2).sum() / (weight.min() + reg_lambda))
    if any(gain - other < scale for split, other in others[:2] if split != mirrored):
        raise Tie
    left = np.frombuffer(best, bool)
    if not left.any():
        return [rows]
    return [
        leaf for part in (rows[left], rows[~left]) for leaf in _leaves(x, gradient, weight, part, depth - 1, reg_lambda)
    ]
