"""Components that tell what a party's minimum of rows may forbid, and cannot check it."""

from __future__ import annotations

from workers.components.pairing import UNBALANCED
from workers.computing.context import Context
from workers.computing.minimum import agreed
from workers.contract.errors import ConfigError
from workers.contract.wording import Text

#: Components that tell figures of groups of rows of any size, and the task types that do so of large ones alone.
UNCHECKED = {
    "ml.eval/biclassification_eval": "evaluate",
    "ml.eval/prediction_bias_eval": "evaluate",
    "preprocessing/vert_binning": "woe_binning",
    "preprocessing/vert_woe_binning": "woe_binning",
    "stats/groupby_statistics": "group_by",
    "stats/stats_psi": "stability",
}
REFUSED = "a party's policy has {}, which {} does not check; use the task type {}"


def check_minimum(context: Context, component: str) -> None:
    """Raise ConfigError if a party's policy has a minimum that the component does not check. Every party calls it."""
    if component not in UNCHECKED and component not in UNBALANCED:
        return
    least = agreed(context)
    if component in UNBALANCED and least.intersection > 1:
        raise ConfigError(REFUSED, Text("min_intersection_rows"), Text(component), Text("unbalanced_psi"))
    if component in UNCHECKED and least.group > 1:
        raise ConfigError(REFUSED, Text("min_group_rows"), Text(component), Text(UNCHECKED[component]))
