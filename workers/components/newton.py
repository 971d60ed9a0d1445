"""Newton's steps of SS-GLM (its optimizer IRLS) to the model that the penalty asks for.

SecretFlow takes the penalty's pull off the target though the matrix that it divides by has the penalty already: its
steps end where the penalty is twice l2_lambda. Here they end at l2_lambda, which SecretFlow says that it is.
"""

from __future__ import annotations

from typing import Any

from workers.components.patching import replace_once


def weigh_penalty_once() -> None:
    """Have the weights follow from matrix and target alone. May be called again."""
    from secretflow.ml.linear.ss_glm import model as glm

    replace_once(glm, "_irls_update_w_from_accumulated_partials", _without_penalty)


def _without_penalty(update: Any) -> Any:
    def updated(inverse: Any, target: Any, model: Any, l2_lambda: Any) -> Any:
        return update(inverse, target, model, None)

    return updated
