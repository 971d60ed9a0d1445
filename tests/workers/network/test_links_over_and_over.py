"""Links are made over and over, and no run hangs though some links do: ``make links LINK_ROUNDS=2000``."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from fixtures.documents import psi_documents
from tests.parties import Parties, Processes

pytestmark = pytest.mark.pipeline

ROUNDS = int(os.environ.get("LINK_ROUNDS", "3"))


@pytest.mark.parametrize("count", [3, 5])
def test_no_run_hangs_where_its_links_do(processes: Processes, tmp_path: Path, count: int) -> None:
    names = ["alice", "bob", "carol", "dave", "erin"][:count]
    rounds = ROUNDS if count == 3 else max(1, ROUNDS // 4)
    spu = {"runtime_config": {"protocol": "SEMI2K", "field": "FM64"}}
    parties = Parties(processes, tmp_path, names, spu_config=spu)
    for number, name in enumerate(names):
        parties.table(name, "keys", pd.DataFrame({"uid": [f"u{i}" for i in range(number, 10)]}))
    task = psi_documents("keys")["task_config"] | {
        "data_sources": dict.fromkeys(names, "keys"),
        "outputs": {"alice": "o"},
        "algorithm_params": {
            "psi_params": {
                "input_keys": {name: ["uid"] for name in names}, "receivers": ["alice"],
                "protocol": "PROTOCOL_ECDH_NPC",
            }
        },
    }  # fmt: skip
    before = processes.links_lost
    for _ in range(rounds):  # each makes all its links anew
        answers = parties.answers(task)
        assert answers["alice"]["result_metadata"]["intersection_count"]["alice"] == 11 - count
        parties.close()  # else thousands of ports would stay bound
    print(f"{rounds} rounds of {count} parties; links that hung and were made anew: {processes.links_lost - before}")
