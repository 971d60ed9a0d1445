"""Every figure and row of random tables equals that of the computation in the clear; and the cases that once failed."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.differential import (
    evaluate,
    group_by,
    he_sum,
    moments,
    one_hot,
    psi,
    stability,
    table_statistics,
    woe_binning,
)
from tests.differential.cases import Hosts
from tests.parties import Processes

#: Module, and how many random tables it gets here.
SUBJECTS = [
    (psi, 30), (group_by, 10), (table_statistics, 10), (stability, 10), (one_hot, 10), (woe_binning, 8), (evaluate, 10),
    (he_sum, 4), (moments, 8),
]  # fmt: skip


@pytest.fixture(scope="module")
def hosts(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    return Hosts(processes, tmp_path_factory.mktemp("hosts"))


@pytest.mark.parametrize("module", [pytest.param(m, id=m.__name__.rpartition(".")[2]) for m, _ in SUBJECTS])
def test_what_once_failed_is_right(hosts: Hosts, module: ModuleType) -> None:
    for case in module.examples():
        module.check(case, *hosts.run(case))


@pytest.mark.parametrize(
    ("module", "count"), [pytest.param(m, n, id=m.__name__.rpartition(".")[2]) for m, n in SUBJECTS]
)
def test_random_tables_give_the_figures_of_the_clear(hosts: Hosts, module: ModuleType, count: int) -> None:
    @seed(20)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def compare(data: Any) -> None:
        case = data.draw(module.strategy())
        module.check(case, *hosts.run(case))

    compare()
