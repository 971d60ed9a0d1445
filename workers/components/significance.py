"""Corrects the p-values of SecretFlow's ``ss_pvalue``: their variance, and the scale of the label."""

from __future__ import annotations

import math
from typing import Any

from workers.components.patching import replace_once


def correct_significance() -> None:
    """Correct three errors of ``ss_pvalue``. May be called again.

    In a linear regression of n rows and p columns SecretFlow divides the squared errors by n - p + 1 instead of n - p -
    1. It also fits a label that is scaled down to 2: with the link Log the intercept then differs from that of the
    label, and the variance of a scaled count is not its mean.
    """
    from secretflow.stats import ss_pvalue_v as pvalue

    replace_once(pvalue, "_t_square_value", _of_free_rows)
    replace_once(pvalue.PValue, "z_statistic_p_value", _of_own_label)


def _of_free_rows(square: Any) -> Any:
    def squared(inverse: Any, rows: Any, columns: Any, *others: Any) -> Any:
        return square(inverse, rows, columns + 2, *others)

    return squared


def _of_own_label(p_value: Any) -> Any:
    from secretflow.ml.linear.ss_glm.core.distribution import DistributionType
    from secretflow.ml.linear.ss_glm.core.link import LinkType

    def told(
        self: Any, x: Any, y: Any, yhat: Any, weights: Any, link: Any, dist: Any, tweedie_power: float = 1,
        y_scale: float = 1, **options: Any,
    ) -> Any:  # fmt: skip
        if y_scale > 1 and link is LinkType.Log:
            weights = self.spu(_with_intercept)(weights, math.log(y_scale))
        if y_scale > 1 and dist is DistributionType.Poisson:
            factor = {LinkType.Identity: y_scale, LinkType.Reciprocal: 1 / y_scale}.get(link, 1.0)
            weights = self.spu(_times)(weights, factor)
            y_scale = 1
        return p_value(self, x, y, yhat, weights, link, dist, tweedie_power, y_scale, **options)

    return told


def _with_intercept(weights: Any, by: Any) -> Any:
    import jax.numpy as jnp

    flat = weights.reshape(-1)
    return jnp.concatenate([flat[:-1], flat[-1:] + by]).reshape(weights.shape)


def _times(weights: Any, factor: Any) -> Any:
    return weights * factor
