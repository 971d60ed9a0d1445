"""What is said of a model that was trained, but is of no use."""

from __future__ import annotations

import numpy as np

from workers.executors.doubts import doubts


def test_it_gives_as_many_digits_as_it_takes_to_see_that_a_constant_is_better() -> None:
    label = np.array([0.0, 1.0, 0.0, 1.0])
    [said] = doubts(label, label * 1e-6 + np.array([0.5, 0.5, 0.5001, 0.4998]), is_classification=False)
    assert "further from the label than the label's mean, 0.5, for every row" in said
    one, other = said.partition("(mean squared error ")[2].partition(")")[0].split(" against ")
    assert float(one) > float(other) == 0.25
