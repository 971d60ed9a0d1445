"""What is said of a model that was trained, but is of no use."""

from __future__ import annotations

import numpy as np
import pytest

from workers.executors.doubts import doubts


def test_it_gives_as_many_digits_as_it_takes_to_see_that_a_constant_is_better() -> None:
    label = np.array([0.0, 1.0, 0.0, 1.0])
    [said] = doubts(label, label * 1e-6 + np.array([0.5, 0.5, 0.5001, 0.4998]), is_classification=False)
    assert "further from the label than the label's mean, 0.5, for every row" in said
    one, other = said.partition("(mean squared error ")[2].partition(")")[0].split(" against ")
    assert float(one) > float(other) == 0.25


@pytest.mark.parametrize(
    ("predictions", "words"),
    [
        ([0.9, 0.1], "further from the label than the label's mean, 0.5, for every row would be "
         "(mean squared error 0.81 against 0.25)"),
        ([0.50004, 0.49996], "(mean squared error 0.25004 against 0.25)"),
        ([0.0, 0.2928932], "(mean squared error 0.25000001 against 0.25)"),
        ([-0.5, 1.5], "as far from the label as the label's mean, 0.5, for every row would be "
         "(mean squared error 0.25 for both)"),
    ],
)  # fmt: skip
def test_it_says_how_far_predictions_are_in_digits_that_differ(predictions: list[float], words: str) -> None:
    [doubt] = doubts([0.0, 1.0], predictions, False)
    assert f"{words}. Train for more epochs" in doubt
