"""Generalised linear models as SecretFlow's SS-GLM makes them, step by step in the clear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

#: Parameters of a model of counts.
COUNTS = {"link_type": "Log", "label_dist_type": "Poisson"}


def fitted(x: Any, y: Any, steps: Mapping[str, Any]) -> tuple[Any, float]:
    """The predictions of the rows, and how far from them a figure may be; None where the steps lead nowhere."""
    logit = steps["link_type"] == "Logit"
    half = max(1.0, float(y.max()) / 2)  # by which SecretFlow divides the label
    design, label = np.column_stack([x, np.ones(len(x))]), y / half
    penalty = np.diag([*[steps["l2_lambda"]] * np.shape(x)[1], 0.0])
    weights, batch = np.zeros(design.shape[1]), steps["batch_size"]
    eta, mean = _start(label, logit)
    for _ in range(steps["epochs"]):
        if steps["optimizer"] == "IRLS":
            slope = mean * (1 - mean) if logit else mean
            target = eta + (label - mean) / slope
            inverse = np.linalg.inv(design.T @ (design * slope[:, None]) + penalty)
            weights = inverse @ (design.T @ (slope * target))
        else:
            for begin in range(0, len(label), batch):
                rows, wanted = design[begin : begin + batch], label[begin : begin + batch]
                error = _mean(rows @ weights, logit) - wanted
                share = len(rows) / batch  # the last rows' penalty weighs as much as that of the others
                step = rows.T @ error + share * (penalty @ weights)
                weights = weights - steps["learning_rate"] * step / len(rows)
        eta = design @ weights
        mean = _mean(eta, logit)
    found = mean * half
    if not np.isfinite(found).all() or np.abs(eta).max() > 6:
        return None, 0.0  # exp and its inverse are not told apart in fixed point
    # Steps are cut to 26 bits behind the point; exp is a number to the 256th, and Newton divides by slopes down to 1e-2
    return found, (1e-2 if steps["optimizer"] == "IRLS" else 1e-3) * max(1.0, float(np.abs(found).max()))


def _start(label: Any, logit: bool) -> tuple[Any, Any]:
    mean = (label + 0.5) / 2 if logit else (label + label.mean()) / 2
    return (np.log(mean / (1 - mean)) if logit else np.log(mean)), mean


def _mean(eta: Any, logit: bool) -> Any:
    """By the approximations that the SPU computes with: the sigmoid ``sr``, and exp by Taylor's limit."""
    if logit:
        return 0.5 * eta / np.sqrt(1 + eta * eta) + 0.5
    return (1 + eta / 256) ** 256
