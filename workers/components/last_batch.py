"""Makes stochastic gradient descent learn from all rows.

SecretFlow's SS-SGD and SS-GLM make as many steps an epoch as there are whole batches, and never see the rows behind
the last one: 93 rows in batches of 32 are 64 rows to them. Here a smaller batch with those rows comes last.
"""

from __future__ import annotations

from typing import Any

from workers.components.patching import replace_once


def learn_from_all_rows() -> None:
    """Have both trainers use the rows after the last whole batch as one more batch. May be called again."""
    from secretflow.ml.linear.ss_glm import model as glm
    from secretflow.ml.linear.ss_sgd import model as sgd

    replace_once(sgd, "_batch_update_w", _of_regression)
    replace_once(glm, "_sgd_update_w", _of_glm)


def _of_regression(update: Any) -> Any:
    def updated(
        x: Any, y: Any, w: Any, learning_rate: Any, l2_norm: Any, *, total_batch: int, batch_size: int, dk_arr: Any,
        **options: Any,
    ) -> Any:  # fmt: skip
        left = x.shape[0] - total_batch * batch_size
        if total_batch:
            w, dk_arr = update(
                x,
                y,
                w,
                learning_rate,
                l2_norm,
                total_batch=total_batch,
                batch_size=batch_size,
                dk_arr=dk_arr,
                **options,
            )
        if left:
            # The penalty is divided by the batch's size: scaled, so that it weighs as much as in the other batches
            w, _ = update(
                x[-left:], y[-left:], w, learning_rate, l2_norm * (left / batch_size), total_batch=1, batch_size=left,
                dk_arr=None, **options,
            )  # fmt: skip
        return w, dk_arr

    return updated


def _of_glm(update: Any) -> Any:
    def updated(
        x: Any, y: Any, offset: Any, weight: Any, model: Any, *, batch_size: int, l2_lambda: Any, **options: Any
    ) -> Any:
        left = x.shape[0] % batch_size
        if left < x.shape[0]:
            model = update(x, y, offset, weight, model, batch_size=batch_size, l2_lambda=l2_lambda, **options)
        if left:
            last = [None if values is None else values[-left:] for values in (x, y, offset, weight)]
            scaled = None if l2_lambda is None else l2_lambda * (left / batch_size)
            model = update(*last, model, batch_size=left, l2_lambda=scaled, **options)
        return model

    return updated
