"""What a party refuses of its own table before it meets anybody, by task type: SecretFlow would compute something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workers.computing.context import Context
from workers.contract.documents import TaskConfig
from workers.contract.errors import ConfigError
from workers.contract.registry import TASK_EXECUTOR_REGISTRY
from workers.devices.spu import SPUConfig
from workers.executors.vertical import check_range
from workers.host.sources import Source
from workers.host.tables import declare

COLUMNS = {"columns": {"alice": ["a", "b"]}}
LABEL = {"features": {"alice": ["a"]}, "label": {"party": "alice", "column": "y"}}


def context_of(directory: Path, task_type: str, params: Any, table: str, **runtime: Any) -> Context:
    path = directory / "table.csv"
    path.write_text(table)
    task = TaskConfig(task_type=task_type, data_sources={"alice": "patients"}, algorithm_params=params)
    document = SPUConfig.model_validate({"runtime_config": runtime})
    sources = {"": Source("patients", path), "test": Source("patients", path)}
    return Context("alice", ["alice", "bob"], task, sources, directory, documents={"spu": document})


def grouped(**more: Any) -> dict[str, Any]:
    aggregate = {"party": "alice", "column": "b", "function": "SUM"}
    return {"group_by_params": {"by": {"alice": ["a"]}, "aggregates": [aggregate], **more}}


def glm(distribution: str) -> dict[str, Any]:
    params = {"link_type": "Log", "label_dist_type": distribution, "optimizer": "SGD"}
    return {"glm_params": LABEL | {"training_params": params}}


@pytest.mark.parametrize(
    ("task_type", "params", "table", "words"),
    [
        ("correlation", {"statistics_params": COLUMNS}, "a,b\n1,2\n", "has 1 rows; this takes 2 or more"),
        ("correlation", {"statistics_params": COLUMNS}, "a,b\n1,2\n3,2\n", "has the same value in each row"),
        ("vif", {"statistics_params": COLUMNS}, "a,b\n1,2\n2,3\n", "has 2 rows; this takes 3 or more"),
        ("woe_binning", {"woe_params": COLUMNS | {"label": {"party": "bob", "column": "y"}}}, "a,b\n1,2\n3,2\n",
         "column 'b' of dataset patients has one value in all rows"),
        ("one_hot", {"one_hot_params": COLUMNS}, "a,b\n" + "".join(f"{i},1\n" for i in range(100)),
         "column 'a' of dataset patients has 100 different values; one-hot encoding takes fewer than 100"),
        ("one_hot", {"one_hot_params": COLUMNS | {"drop": "mode"}}, "a,b\n1,5\n2,\n",
         "'b' of dataset patients has one value, of which drop: mode leaves no column"),
        ("one_hot", {"one_hot_params": COLUMNS}, "a,b\n1,\n2,\n", "column 'b' of dataset patients has no values"),
        ("stability", {"stability_params": COLUMNS}, "a,b\n1,\n2,NA\n", "'b' of dataset patients has no values"),
        ("stability", {"stability_params": COLUMNS}, "a,b\n1,x\n", "'b' of dataset patients is not numeric"),
        ("table_statistics", {"statistics_params": COLUMNS}, "a,b\n1,inf\n2,3.5\n", "'b' of dataset patients has 1"),
        ("group_by", grouped(), "a,b\n1,2\n2,9007199254740992\n",
         "divide them; or declare the column float in party.toml"),
        ("group_by", grouped(most_groups=2), "a,b\n1,2\n2,3\n3,4\n",
         "'a' of dataset patients makes 3 groups, more than most_groups (2)"),
        # Its component tells 0 of all, or infinity, or what is a fifth beside the truth
        ("scale", {"scale_params": COLUMNS}, "a,b\n1,1e200\n2,-1e200\n", "'b' of dataset patients has numbers between"),
        ("scale", {"scale_params": COLUMNS}, "a,b\n1,1e-200\n2,3e-200\n", "otherwise divide them by one"),
        ("lr", {"ml_params": {"features": {"alice": ["a"]}, "label": {"party": "alice", "column": "b"}}},
         "a,b\n" + "".join(f"{5 * 10**15 + i % 3},{i % 2}\n" for i in range(40)), "'a' of dataset patients has"),
        ("split", {"split_params": {}}, "a,b\n", "dataset patients has no rows"),
        ("lr", {"ml_params": LABEL}, "a,y\n1,0\n2,2\n", "label 'y' at alice has values other than 0 and 1"),
        ("lr", {"ml_params": LABEL}, "a,y\n1,0\n2,0\n", "label 'y' at alice has one class only"),
        ("lr", {"ml_params": LABEL}, "a,y\n1,0\n", "has 1 rows for 1 features of all parties"),
        ("lr", {"ml_params": LABEL | {"model_type": "linear_regression"}}, "a,y\n1,3\n2,3\n4,3\n",
         "label 'y' at alice has the same value in all rows; there is nothing to learn"),
        ("evaluate", {"evaluate_params": {"party": "alice", "label": "y", "prediction": "a"}}, "a,y\n1,0\n2,2\n",
         "has values other than 0 and 1; for numbers say kind: regression"),
        ("ss_glm", glm("Poisson"), "a,y\n1,0\n2,-1\n", "too small for a Poisson distribution: use 0 or more"),
        ("ss_glm", glm("Gamma"), "a,y\n1,0\n2,1\n", "too small for a Gamma distribution: use above 0"),
    ],
)  # fmt: skip
def test_it_says_what_is_wrong_with_the_table(
    tmp_path: Path, task_type: str, params: Any, table: str, words: str
) -> None:
    executor = TASK_EXECUTOR_REGISTRY[task_type](context_of(tmp_path, task_type, params, table))
    with pytest.raises(ConfigError) as caught:
        executor.validate_params(params)
    assert words in str(caught.value)


def test_whole_numbers_that_float64_rounds_are_grouped_where_they_are_declared_float(tmp_path: Path) -> None:
    """It is what the refusal says to do."""
    context = context_of(tmp_path, "group_by", grouped(), "a,b\n1,2\n2,9007199254740993\n")
    declare({(context.input_path, "patients"): {"b": "float"}})
    prepared = TASK_EXECUTOR_REGISTRY["group_by"](context).validate_params(grouped())
    declare({})
    assert prepared.numbers("b", "SUM").tolist() == [2.0, 2.0**53]


@pytest.mark.parametrize(
    ("runtime", "fits", "too_large"),
    [
        ({"field": "FM64"}, 2**27 - 1, 2**27),
        ({"field": "FM128"}, 2.0**74, 2.0**75),
        ({"field": "FM128", "fxp_fraction_bits": 40}, 2**47 - 1, 2**47),
    ],
)
def test_it_says_which_numbers_are_too_large_for_fixed_point(
    tmp_path: Path, runtime: Any, fits: float, too_large: float
) -> None:
    context = context_of(tmp_path, "lr", {"ml_params": LABEL}, "a,y\n1,0\n", **runtime)
    check_range(context, np.array([0.0, -fits]), "a")
    with pytest.raises(ConfigError) as caught:
        check_range(context, np.array([0.0, -too_large]), "a")
    assert "column 'a' of dataset patients has values too large for this SPU" in str(caught.value)
    with pytest.raises(ConfigError):
        check_range(context, np.array([0.0, fits / 2]), "a", times=4)
