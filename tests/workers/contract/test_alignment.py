"""Tables of several parties are computed with together only where something says that their rows line up."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from tests.parties import Parties, Processes

NAMES = ("alice", "bob")
ROWS = 40
#: Wide enough that a regression has something to learn.
ALICE = pd.DataFrame({"uid": [f"u{i:03}" for i in range(ROWS)], "x": [(i * 7) % 11 for i in range(ROWS)]})
BOB = pd.DataFrame({"y": [int(i % 3 == 0) for i in range(ROWS)], "uid": [f"u{i:03}" for i in reversed(range(ROWS))]})
COLUMNS = {"alice": ["x"], "bob": ["y"]}


@pytest.fixture(scope="module")
def parties(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    found = Parties(processes, tmp_path_factory.mktemp("alignment"), NAMES, spu_config={})
    for party, table in (("alice", ALICE), ("bob", BOB)):
        for name in ("people", "same_length", "sorted_by_hand"):
            found.table(party, name, table)
        found.alignments |= {(party, "people"): None, (party, "same_length"): None}
        found.alignments[party, "sorted_by_hand"] = "by-uid"
    found.run(psi("common"))
    found.run(psi("common_again"))
    yield found
    found.close()


def both(value: Any) -> dict[str, Any]:
    return dict.fromkeys(NAMES, value)


def psi(output: str, task_type: str = "psi") -> dict[str, Any]:
    params = {"input_keys": both(["uid"]), "receivers": list(NAMES)}
    return {
        "task_type": task_type,
        "data_sources": both("people"),
        "outputs": both(output),
        "algorithm_params": {"psi_params": params},
    }


def correlation(alice: str, bob: str) -> dict[str, Any]:
    return {
        "task_type": "correlation",
        "data_sources": {"alice": alice, "bob": bob},
        "algorithm_params": {"statistics_params": {"columns": COLUMNS}},
    }


def refusal(parties: Parties, task: dict[str, Any]) -> str:
    """What the party says that found it out first."""
    with pytest.raises(AssertionError) as raised:
        parties.run(task)
    errors = raised.value.args[0]
    assert isinstance(errors, dict), errors
    return str(next(e["error"] for e in errors.values() if e["error_type"] in ("ConfigError", "AlgorithmError")))


def test_the_outputs_of_one_psi_line_up(parties: Parties) -> None:
    pairs = zip(parties.output("alice", "common").uid, parties.output("bob", "common").uid, strict=True)
    assert all(a == b for a, b in pairs)
    answers = parties.run(correlation("common", "common"))
    assert "warnings" not in answers["alice"]
    told = {name: answer["outputs"]["told"]["alignment"] for name, answer in parties.run(psi("told")).items()}
    assert told["alice"] == told["bob"], "the control plane is told as well"
    assert re.fullmatch(r"[0-9a-f-]{36}-1", told["alice"])


@pytest.mark.parametrize(
    ("alice", "bob", "said"),
    [
        ("same_length", "same_length", "the order of alice and bob's tables is unknown; run a PSI"),
        ("common", "same_length", "the order of bob's table is unknown; run a PSI"),
        ("common", "common_again", "as their tables have unlike orders: alice's is that of execution"),
        ("common", "sorted_by_hand", "bob's is declared in its party.toml (by-uid)"),
    ],
)
def test_tables_of_unlike_or_unknown_order_are_refused(parties: Parties, alice: str, bob: str, said: str) -> None:
    error = refusal(parties, correlation(alice, bob))
    assert said in error
    assert 'give each the same alignment = "NAME" in its party.toml' in error


def test_a_table_that_was_edited_since_its_run_is_refused_until_it_is_put_back(parties: Parties) -> None:
    parties.run(psi("edited"))
    path = parties.directory / "alice" / "outputs" / "edited.csv"
    text = path.read_text()
    # That a row is gone is no news to who took it out, but that it was this file
    for edited in (text.replace("u001", "u999"), text[: text[:-1].rindex("\n") + 1]):
        path.write_text(edited)
        error = refusal(parties, correlation("edited", "edited"))
        assert re.search(
            r"the file of alice's table was changed since execution [0-9a-f-]{36} made it; put the file", error
        )
    path.write_text(text)
    parties.run(correlation("edited", "edited"))


def test_an_edit_that_sets_the_file_s_time_back_is_seen(parties: Parties) -> None:
    parties.run(psi("set_back"))
    path = parties.directory / "alice" / "outputs" / "set_back.csv"
    found, [heading, *rows] = path.stat(), path.read_text().splitlines()
    path.write_text("\n".join([heading, *reversed(rows), ""]))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert path.stat().st_size == found.st_size
    assert "the file of alice's table was changed since" in refusal(parties, correlation("set_back", "set_back"))


def test_tables_that_both_parties_declare_to_line_up_are_taken_and_the_result_says_so(parties: Parties) -> None:
    answers = parties.run(correlation("sorted_by_hand", "sorted_by_hand"))
    [warning] = answers["alice"]["warnings"]
    assert "each declares the alignment 'by-uid' in its party.toml; nothing else vouches" in warning


def test_what_changes_the_rows_makes_an_order_of_its_own_and_what_keeps_them_passes_it_on(parties: Parties) -> None:
    split = {
        "task_type": "split",
        "data_sources": both("common"),
        "outputs": both("train"),
        "further_outputs": {"test": both("test")},
        "algorithm_params": {"split_params": {"test_fraction": 0.5}},
    }
    scale = {
        "task_type": "scale",
        "data_sources": both("common"),
        "outputs": both("scaled"),
        "algorithm_params": {"scale_params": {"columns": COLUMNS}},
    }
    parties.run(split)
    parties.run(scale)
    parties.run(correlation("train", "train"))
    parties.run(correlation("scaled", "common"))
    # Of as many rows, so that their number does not say it
    assert len(parties.output("alice", "train")) == len(parties.output("bob", "test"))
    assert "unlike orders" in refusal(parties, correlation("train", "test"))


def test_a_component_that_filters_makes_an_order_of_its_own(parties: Parties) -> None:
    table = {"features": {"alice": ["x", "uid"], "bob": ["y"]}, "select": {"drop_features": ["uid"]}}
    kept = component("data_filter/feature_filter", {"input_ds": table}, {}, "same_rows")
    sampled = component(
        "data_filter/sample", {"input_ds": {"features": COLUMNS}}, {"sample_algorithm": {"choose": "random"}}, "fewer"
    )
    parties.run(kept)
    parties.run(sampled)
    parties.run(correlation("same_rows", "common"))
    parties.run(correlation("fewer", "fewer"))
    assert "do not line up" in refusal(parties, correlation("fewer", "common"))


def component(name: str, columns: dict[str, Any], attributes: dict[str, Any], output: str) -> dict[str, Any]:
    params = {"component": name, "columns": columns} | ({"attributes": attributes} if attributes else {})
    return {
        "task_type": "component",
        "data_sources": both("common"),
        "outputs": both(output),
        "algorithm_params": {"component_params": params},
    }


def test_a_psi_that_paired_rows_wrongly_fails_and_keeps_nothing(parties: Parties) -> None:
    error = refusal(parties, psi("wrong", "misordered_psi"))
    assert "rows in unlike orders, so nothing was kept" in error
    for party in NAMES:
        assert not (parties.directory / party / "outputs" / "wrong.csv").exists()


def test_the_task_s_settings_are_not_replaced_without_a_word(parties: Parties) -> None:
    devices = {"spu_config": {"runtime_config": {"field": "FM64", "fxp_fraction_bits": 18}}}
    answers = parties.run(correlation("common", "common"), **devices, heu_config={"enable_heu": False})
    [warning] = answers["bob"]["warnings"]
    assert "field FM128 in the place of FM64" in warning
    assert "fxp_fraction_bits 40 in the place of 18" in warning
