"""Models trained by two real parties are as good as those of the same kind in the clear, on two public tables."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from tests.parties import SMALL_KEYS, Parties, Processes

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "lr": ("ml_params", {"epochs": 5, "learning_rate": 0.3, "batch_size": 64}),
    "ss_glm": (
        "glm_params",
        {"epochs": 5, "learning_rate": 0.3, "batch_size": 64, "link_type": "Logit", "label_dist_type": "Bernoulli",
         "optimizer": "SGD"},
    ),
    "ss_xgb": (
        "xgb_params",
        {"num_boost_round": 4, "max_depth": 3, "learning_rate": 0.3, "subsample": 1.0, "colsample_by_tree": 1.0},
    ),
    "sgb": ("sgb_params", {"num_boost_round": 8, "max_depth": 3, "learning_rate": 0.3}),
}  # fmt: skip


# The fewer the rows, the more epochs a linear model needs for as many steps
@pytest.mark.parametrize(("load", "epochs"), [(load_breast_cancer, 5), (load_wine, 30)])
def test_auc_is_within_two_hundredths(processes: Processes, tmp_path: Any, load: Any, epochs: int) -> None:
    data = load(as_frame=True).frame
    data["target"] = (data["target"] == 0).astype(int)
    data.columns = [name.replace(" ", "_").replace("/", "_") for name in data.columns]
    features = list(data.columns[:-1])
    half = len(features) // 2
    columns = {"alice": features[:half], "bob": features[half:]}
    parties = Parties(processes, tmp_path, ("alice", "bob"), spu_config={}, heu_config=SMALL_KEYS)
    parties.table("alice", "rows", data[columns["alice"]])
    parties.table("bob", "rows", data[[*columns["bob"], "target"]])
    clear = _clear(data[features], data["target"])
    for name, (key, params) in MODELS.items():
        params = params | ({"epochs": epochs} if "epochs" in params else {})
        answers = parties.run(
            {
                "task_type": name,
                "data_sources": {"alice": "rows", "bob": "rows"},
                "outputs": {"bob": name},
                "algorithm_params": {
                    key: {"features": columns, "label": {"party": "bob", "column": "target"},
                          "training_params": params}
                },
            }
        )  # fmt: skip
        found = roc_auc_score(data["target"], parties.output("bob", name)["prediction"])
        assert found == pytest.approx(clear[name], abs=0.02), name
        assert answers["alice"]["metrics"]["auc"] == pytest.approx(found, abs=1e-6)
    parties.close()


def _clear(x: pd.DataFrame, y: pd.Series[int]) -> dict[str, float]:
    linear = LogisticRegression(max_iter=5000).fit(scaled := StandardScaler().fit_transform(x), y)
    trees = GradientBoostingClassifier(n_estimators=8, max_depth=3, learning_rate=0.3, random_state=0).fit(x, y)
    regression = roc_auc_score(y, linear.predict_proba(scaled)[:, 1])
    boosting = roc_auc_score(y, trees.predict_proba(x)[:, 1])
    return {"lr": regression, "ss_glm": regression, "ss_xgb": boosting, "sgb": boosting}
