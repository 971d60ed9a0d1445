"""Linear models by stochastic gradient descent, step by step in the clear."""

from __future__ import annotations

from typing import Any

import numpy as np


def sgd(
    x: Any, y: Any, *, epochs: int, learning_rate: float, batch_size: int, logistic: bool = True, l2: float = 0.0
) -> Any:
    """Return the weights, (columns + 1,), the last of them the constant: all rows in their order, in every epoch.

    ``x``: (rows, columns). The sigmoid is SecretFlow's ``t1``: a straight line between 0 and 1.
    """
    design, weights = np.column_stack([x, np.ones(len(x))]), np.zeros(np.shape(x)[1] + 1)
    for _ in range(epochs):
        for begin in range(0, len(design), batch_size):
            rows, label = design[begin : begin + batch_size], y[begin : begin + batch_size]
            found = rows @ weights
            error = (np.clip(0.5 + found / 4, 0, 1) if logistic else found) - label
            penalty = np.append(weights[:-1], 0) * l2 / batch_size
            weights = weights - learning_rate * (rows.T @ error / len(rows) + penalty)
    return weights
