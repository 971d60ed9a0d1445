"""Columns that float64 cannot standardize by a mean and a deviation."""

from __future__ import annotations

import numpy as np
import pytest

from workers.contract.errors import ConfigError
from workers.executors.standard import check_standard, standardized

FEW = np.array([0.0, 1.0, 7.0, -3.0])
CLEAR = (FEW - FEW.mean()) / FEW.std()


@pytest.mark.parametrize("shift", [0.0, 5e15])
@pytest.mark.parametrize("times", [1.0, -1.0, 1e-200, 1e200, 2e307, 2.0**-1070])
def test_it_standardizes_any_numbers(shift: float, times: float) -> None:
    values = FEW * times + (shift if abs(times) == 1 else 0)
    assert standardized(values) == pytest.approx(CLEAR * np.sign(times), abs=1e-12)


@pytest.mark.parametrize("values", [FEW * 1e200, FEW * 1e-200, FEW + 5e15, FEW * 2e307, np.array([1e16 + 2, 1e16 + 4])])
def test_it_says_of_which_numbers_a_mean_and_a_deviation_are_wrong(values: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"^column 'x' of dataset rows has numbers between .*; subtract a constant"):
        check_standard(values, "x", "rows")


@pytest.mark.parametrize(
    "values", [FEW, FEW * 1e100, FEW * 1e-100, FEW + 1e9, np.array([0.0, 1e15]), np.full(3, 1e200), np.array([5e15])]
)
def test_it_takes_the_others(values: np.ndarray) -> None:
    check_standard(values, "x", "rows")
