"""Each task type's example, and so each task type, run by two real parties on the demo's tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from controlplane.examples import TABLE, examples, made_by, request_of
from executions.results.reading import read
from fixtures.tables import write_tables
from tests.parties import SMALL_KEYS, Parties, Processes
from workers.contract.registry import TASK_EXECUTOR_REGISTRY
from workers.contract.results import Figures

#: Task types of the tests' own.
OF_TESTS = {"pseudonymise", "light", "arithmetic", "misordered_psi"}


def in_order() -> list[str]:
    """Each after those whose outputs it reads; of three parties last, as that ends the session of two.

    Those on the same devices one after the other, where that can be: others cannot have their session.
    """
    left, found, last = examples(), dict[str, None](), ""
    while left:
        ready = [name for name, example in left.items() if set(made_by(example).values()) <= set(found)]
        assert ready, f"wait for each other: {', '.join(left)}"
        last = next((name for name in ready if last and devices_of(name) == devices_of(last)), ready[0])
        found[last] = None
        left = {name: example for name, example in left.items() if name != last}
    return sorted(found, key=lambda name: len(request_of(examples()[name])["sf_init_config"]["parties"]))


def devices_of(name: str) -> dict[str, Any]:
    """The documents of the devices that the example's printed request has, with smaller keys."""
    request = request_of(examples()[name])
    layers = {layer: document for layer, document in request.items() if layer not in ("sf_init_config", "task_config")}
    if layers["heu_config"].get("enable_heu", True):
        layers["heu_config"] = layers["heu_config"] | SMALL_KEYS
    return layers


@pytest.fixture(scope="module")
def parties(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    directory = tmp_path_factory.mktemp("examples")
    for path in write_tables(directory).values():
        # Fewer patients than the demo's: some of the components take the square of their number
        table = pd.read_csv(path)
        table[table.uid < "patient-0350"].to_csv(path, index=False)
    found = Parties(processes, directory, ("alice", "bob"), spu_config={}, heu_config=SMALL_KEYS)
    yield found
    found.close()


@pytest.fixture
def three(parties: Parties, processes: Processes) -> Iterator[Parties]:
    """The same with carol, who has some of bob's patients."""
    found = Parties(processes, parties.directory, ("alice", "bob", "carol"), spu_config={})
    found.table("carol", TABLE, pd.read_csv(parties.directory / "bob" / f"{TABLE}.csv")[["uid"]][:200])
    yield found
    found.close()


@pytest.fixture(scope="module")
def clear(parties: Parties) -> pd.DataFrame:
    """What the parties have in common, in the clear."""
    alice, bob = (pd.read_csv(parties.directory / p / "breast_cancer.csv") for p in ("alice", "bob"))
    return alice.merge(bob, on="uid")


@pytest.mark.parametrize("name", in_order())
def test_its_example_runs(parties: Parties, name: str, request: pytest.FixtureRequest) -> None:
    example = examples()[name]
    of_three = len(request_of(example)["sf_init_config"]["parties"]) == 3
    answers = (request.getfixturevalue("three") if of_three else parties).run(example, **devices_of(name))
    for party, output in example.get("outputs", {}).items():
        assert output in answers[party]["outputs"]
    for named in example.get("further_outputs", {}).values():
        for party, output in named.items():
            assert output in answers[party]["outputs"]
    metrics = answers["bob"].get("metrics", {})
    assert metrics.get("auc", 1) > 0.85, metrics
    # What it found is shown as what it is: in its declared form, and a table's figures under their names
    task_type = example["task_type"]
    found = read(task_type, answers["bob"])
    titles = {block.title for block in found.blocks}
    assert TASK_EXECUTOR_REGISTRY[task_type].Result is Figures or "Result" not in titles
    assert "auc" not in metrics or "ROC curve" in titles


def test_all_have_an_example_or_say_why_not() -> None:
    for name, executor in TASK_EXECUTOR_REGISTRY.items():
        for variant in executor.variants():
            assert (f"{name}:{variant}" in examples()) != bool(executor.not_here(variant)), variant
        if name not in OF_TESTS:
            assert executor.example, name


def test_the_patients_that_three_have_in_common(parties: Parties, clear: pd.DataFrame) -> None:
    known = set(pd.read_csv(parties.directory / "carol" / f"{TABLE}.csv").uid)
    expected = sorted(uid for uid in clear.uid if uid in known)
    assert expected
    for party in ("alice", "bob", "carol"):
        assert sorted(parties.output(party, "psi_tp").uid) == expected


def test_the_tables_are_those_of_the_clear_computation(parties: Parties, clear: pd.DataFrame) -> None:
    common = parties.output("alice", "in_common").merge(parties.output("bob", "in_common"), on="uid")
    pd.testing.assert_frame_equal(
        common.sort_values("uid", ignore_index=True), clear[common.columns].sort_values("uid", ignore_index=True)
    )
    train, test = parties.output("alice", "train"), parties.output("alice", "test")
    assert sorted([*train.uid, *test.uid]) == sorted(common.uid)
    assert list(train.uid) == list(parties.output("bob", "train").uid)
    scaled, plain = parties.output("alice", "scaled"), parties.output("alice", "in_common")
    expected = (plain.mean_radius - plain.mean_radius.mean()) / plain.mean_radius.std()
    assert (scaled.mean_radius - expected).abs().max() < 0.01
    assert list(scaled.uid) == list(plain.uid)
    pd.testing.assert_frame_equal(parties.output("alice", "binned"), parties.output("alice", "binned_too"))
    encoded = parties.output("bob", "encoded")
    malignant = parties.output("bob", "in_common").malignant  # the new columns are numbered, by no rule of theirs
    assert any(list(encoded[column]) == list(malignant) for column in ("malignant_0", "malignant_1"))
    assert (encoded.malignant_0 + encoded.malignant_1 == 1).all()
