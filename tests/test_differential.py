"""Every figure and row of random tables equals that of the computation in the clear; and the cases that once failed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.differential import group_by, table_statistics
from tests.differential.cases import Case, run
from tests.parties import Processes

#: Module, and how many random tables it gets here.
SUBJECTS = [(group_by, 12), (table_statistics, 10)]


def hold(processes: Processes, module: ModuleType, case: Case) -> None:
    with tempfile.TemporaryDirectory() as directory:
        answers, output = run(processes, Path(directory), case)
        module.check(case, answers, output)


@pytest.mark.parametrize(
    ("module", "case"),
    [
        pytest.param(module, case, id=f"{module.__name__.rpartition('.')[2]}-{index}")
        for module, _ in SUBJECTS
        for index, case in enumerate(module.examples())
    ],
)
def test_what_once_failed_is_right(processes: Processes, module: ModuleType, case: Case) -> None:
    hold(processes, module, case)


@pytest.mark.parametrize(
    ("module", "count"), [pytest.param(m, n, id=m.__name__.rpartition(".")[2]) for m, n in SUBJECTS]
)
def test_random_tables_give_the_figures_of_the_clear(processes: Processes, module: ModuleType, count: int) -> None:
    @seed(20)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def compare(data: Any) -> None:
        hold(processes, module, data.draw(module.strategy()))

    compare()
