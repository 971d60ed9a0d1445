"""Every figure and row of random tables equals that of the computation in the clear; and the cases that once failed.

``make fuzz`` runs the same with many more cases (FUZZ_CASES), and looks for the smallest that differs.
"""

from __future__ import annotations

import os
import time
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.differential import (
    apply_rule,
    bins,
    component_figures,
    components,
    drifts,
    encodings,
    evaluate,
    group_by,
    he_sum,
    joins,
    links,
    models,
    moments,
    one_hot,
    predict,
    psi,
    queries,
    rows,
    scores,
    significance,
    stability,
    table_statistics,
    training,
    unbalanced_psi,
    woe_binning,
)
from tests.differential.cases import Hosts
from tests.parties import Processes

#: Module, and how many random tables it gets here: fewer where a case takes seconds.
SUBJECTS = {
    psi: 12, rows: 8, training: 3, table_statistics: 5, stability: 5, one_hot: 5, evaluate: 5,
    group_by: 3, woe_binning: 4, moments: 4, he_sum: 3,
    unbalanced_psi: 4, apply_rule: 4, predict: 1, components: 5, component_figures: 2,
    encodings: 4, bins: 4, joins: 4, links: 1, drifts: 3, models: 2, queries: 4, scores: 3, significance: 1,
}  # fmt: skip
#: How many in all, in their shares; and which.
CASES = int(os.environ.get("FUZZ_CASES", sum(SUBJECTS.values())))
SEED = int(os.environ.get("FUZZ_SEED", 20))


def name_of(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


@pytest.fixture(scope="module")
def hosts(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    return Hosts(processes, tmp_path_factory.mktemp("hosts"))


@pytest.mark.parametrize("module", SUBJECTS, ids=name_of)
def test_what_once_failed_is_right(hosts: Hosts, module: ModuleType) -> None:
    for case in module.examples():
        module.check(case, *hosts.run(case))


@pytest.mark.parametrize("module", SUBJECTS, ids=name_of)
def test_random_tables_give_the_figures_of_the_clear(hosts: Hosts, module: ModuleType) -> None:
    count, is_long = round(SUBJECTS[module] * CASES / sum(SUBJECTS.values())), "FUZZ_CASES" in os.environ
    ran, begun = 0, time.monotonic()

    @seed(SEED)
    @settings(
        max_examples=max(count, 1), deadline=None, database=None, suppress_health_check=list(HealthCheck),
        # A case that differs is looked for in its smallest form where there is time for it
        phases=[Phase.generate, Phase.shrink] if is_long else [Phase.generate],
    )  # fmt: skip
    @given(st.data())
    def compare(data: Any) -> None:
        nonlocal ran
        case = data.draw(module.strategy())
        module.check(case, *hosts.run(case))
        ran += 1

    try:
        compare()
    finally:
        print(f"{name_of(module)}: {ran} cases in {time.monotonic() - begun:.0f} s")
