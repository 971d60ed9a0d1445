"""Half a million rows a side: the result is exactly pandas' merge, and memory does not grow with the table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks.memory import PeakMemory
from tests.parties import Parties, Processes

ROWS = 500_000
KEYS = {"alice": ["id", "day"], "bob": ["id", "day"]}


def _table(first: int, name: str) -> pd.DataFrame:
    """In random order, with composite keys and values of which each row has its own."""
    number = np.random.default_rng(first).permutation(np.arange(first, first + ROWS))
    return pd.DataFrame({"id": 10**8 + number // 2, "day": number % 2, name: number * 3})


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {"alice": _table(0, "x"), "bob": _table(ROWS // 3, "y")}


@pytest.fixture
def parties(processes: Processes, tmp_path: Path, tables: dict[str, pd.DataFrame]) -> Iterator[Parties]:
    found = Parties(processes, tmp_path, ("alice", "bob"), spu_config={})
    for party, table in tables.items():
        found.table(party, "rows", table)
    yield found
    found.close()


def _task(task_type: str, name: str, source: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    both = ("alice", "bob")
    task = {"task_type": task_type, "data_sources": dict.fromkeys(both, source), "outputs": dict.fromkeys(both, name)}
    return task | {"algorithm_params": params} | more


def test_psi_and_split_of_many_rows(processes: Processes, parties: Parties, tables: dict[str, pd.DataFrame]) -> None:
    psi = {"psi_params": {"input_keys": KEYS, "receivers": ["alice", "bob"]}}
    split: dict[str, Any] = {"split_params": {"test_fraction": 0.25}}
    test = {"further_outputs": {"test": {"alice": "test", "bob": "test"}}}
    for party, table in tables.items():
        parties.table(party, "few", table[:1000])

    def peak(task: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        with PeakMemory(processes.pids()) as found:
            answers = parties.run(task)
        return found.mb, answers

    parties.run(_task("psi", "few_common", "few", psi))  # starts the processes
    before, _ = peak(_task("split", "few_train", "few", split, **test))
    splitting, _ = peak(_task("split", "train", "rows", split, **test))
    scale: dict[str, Any] = {"scale_params": {"columns": {"alice": ["x"], "bob": ["y"]}}}
    scaling, _ = peak(_task("scale", "scaled", "train", scale))
    intersecting, results = peak(_task("psi", "common", "rows", psi))
    print(f"MB at most: few rows {before:.0f}, split {splitting:.0f}, scale {scaling:.0f}, psi {intersecting:.0f}")
    assert splitting - before < 100
    assert intersecting - before < 480  # what SecretFlow's PSI takes by itself

    for party, table in tables.items():
        parts = pd.concat([parties.output(party, name) for name in ("train", "test")])
        assert len(parties.output(party, "test")) == ROWS // 4
        pd.testing.assert_frame_equal(_sorted(parts), _sorted(table))
        column = table.columns[-1]
        train, scaled = (parties.output(party, name) for name in ("train", "scaled"))
        assert scaled[["id", "day"]].equals(train[["id", "day"]])
        # By numpy: pandas compares numbers that may be a little off one by one, for half a minute
        expected = (train[column] - train[column].mean()) / train[column].std(ddof=0)
        np.testing.assert_allclose(scaled[column], expected, rtol=1e-5, atol=1e-4)
    common = tables["alice"].merge(tables["bob"], on=["id", "day"])
    for party in tables:  # each tells its own
        assert results[party]["intersection_count"] == {party: len(common)}
    alice, bob = (parties.output(party, "common") for party in ("alice", "bob"))
    assert alice[["id", "day"]].equals(bob[["id", "day"]]), "the parties' rows line up"
    pd.testing.assert_frame_equal(_sorted(pd.concat([alice, bob.y], axis=1)), _sorted(common))


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["id", "day"], ignore_index=True)
