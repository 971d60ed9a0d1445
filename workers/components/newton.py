"""Makes SS-GLM's Newton steps (its optimizer IRLS) use the penalty l2_lambda that the task names.

SecretFlow subtracts the penalty from the target although the matrix that it divides by already includes the penalty:
its model is the one for twice l2_lambda. Here it is the one for l2_lambda, as SecretFlow documents it.
"""

from __future__ import annotations

from typing import Any

from workers.components.patching import replace_once


def weigh_penalty_once() -> None:
    """Compute the weights only from matrix and target. May be called again."""
    from secretflow.ml.linear.ss_glm import model as glm

    replace_once(glm, "_irls_update_w_from_accumulated_partials", _without_penalty)


def _without_penalty(update: Any) -> Any:
    def updated(inverse: Any, target: Any, model: Any, l2_lambda: Any) -> Any:
        return update(inverse, target, model, None)

    return updated
