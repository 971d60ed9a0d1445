"""Results have room for figures, and none for rows, whatever a task type returns by mistake."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from redis import Redis

from fixtures.documents import psi_documents
from tests.keys import stream
from workers.contract.errors import AlgorithmError
from workers.contract.registry import TASK_EXECUTOR_REGISTRY
from workers.contract.results import Figures, check_result
from workers.executors.rows import SplitExecutor
from workers.host.party import PartyHost
from workers.runtime.task_run import Runtime, TaskRun

EXECUTION = "0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e"
ROW = {"uid": "quagga1", "age": 41, "diagnosis": "x"}
#: A table of 2,000 rows, in the forms in which one leaves pandas and others.
TABLES: dict[str, Any] = {
    "records": [ROW] * 2000,
    "index": {f"quagga{i}": ROW for i in range(2000)},
    "lists": [list(ROW.values())] * 2000,
    "columns": {column: [value] * 2000 for column, value in ROW.items()},
    "names": {"uid": ["quagga1"] * 2000},
    "values": {f"quagga{i}": i for i in range(20_000)},
    "text": "uid,age\n" + "quagga1,41\n" * 2000,
}
PARTIES = ["alice", "bob"]
OURS = sorted(kind for kind, found in TASK_EXECUTOR_REGISTRY.items() if found.__module__.startswith("workers"))


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("task_type", OURS)
def test_no_field_of_any_result_takes_a_table(task_type: str, form: str) -> None:
    model = TASK_EXECUTOR_REGISTRY[task_type].Result
    assert model is not Figures, "a task type of ours says what its result is"
    for field in [*model.model_fields, "rows_of_patients"]:
        if (task_type, field) == ("component", "read"):
            continue  # models and rules alone are read there
        with pytest.raises(AlgorithmError, match="is not of the form that it declares") as caught:
            check_result(task_type, model, {"component": "x", field: TABLES[form]}, PARTIES)
        assert "quagga" not in str(caught.value)
        assert "patients" not in str(caught.value)


@pytest.mark.parametrize("form", TABLES)
def test_nor_does_the_result_of_a_task_type_that_names_none(form: str) -> None:
    for result in ({"x": TABLES[form]}, TABLES[form]):
        with pytest.raises(AlgorithmError):
            check_result("of another package", Figures, result, PARTIES)

    fits = {"mean": 1.5, "counts": {"alice": 3, "bob": None}}
    assert check_result("of another package", Figures, fits, PARTIES) == fits


@pytest.mark.parametrize(
    ("rows", "is_right"), [([["a", 1.5, None, True]] * 1000, True), ([["a", 1]] * 1001, False), ([[["a"]]], False)]
)
def test_a_table_of_a_report_is_one_that_people_read(rows: Any, is_right: bool) -> None:
    result = {"reports": {"report": [{"name": "x", "tables": [{"name": "", "columns": ["a"], "rows": rows}]}]}}
    model = TASK_EXECUTOR_REGISTRY["group_by"].Result
    if is_right:
        assert check_result("group_by", model, result, PARTIES) is result
    else:
        with pytest.raises(AlgorithmError, match=r"\(in reports\)"):
            check_result("group_by", model, result, PARTIES)


def test_a_run_that_returns_rows_fails_and_tells_none(tmp_path: Path, connection: Redis, caplog: Any) -> None:
    (tmp_path / "people.csv").write_text("uid,age\nquagga1,1\nquagga2,2\n")
    policy = '[policy]\ntask_types = ["*"]\npeers = ["*"]\n[datasets.people]\npath = "people.csv"\n'
    (tmp_path / "party.toml").write_text(f'party = "alice"\n{policy}')
    task = {"task_type": "split", "outputs": {"alice": "a", "bob": "a"}, "algorithm_params": {"split_params": {}}}
    documents = psi_documents("people", further_outputs={"test": {"alice": "b", "bob": "b"}}, **task)
    documents["sf_init_config"] |= {
        "self_party": "alice",
        "job_name": f"{EXECUTION}-1",
        "cluster": {"alice": {"address": "127.0.0.1:1"}, "bob": {"address": "127.0.0.1:2"}},
    }
    documents["spu_config"] = {"enable_spu": False}
    runtime = Runtime(PartyHost.load(tmp_path / "party.toml"), stream(connection, "alice"), "alice-1")
    rows = {"train_rows": 1, "rows": [["quagga1", 1]]}
    with (
        pytest.MonkeyPatch.context() as place,
        patch.object(TaskRun, "_start_cluster"),
        patch.object(tempfile, "tempdir", None),  # a run changes it
        patch.object(SplitExecutor, "execute_algorithm", return_value=rows),
    ):
        place.chdir(tmp_path)
        place.setenv("TMPDIR", str(tmp_path))
        answer = TaskRun(runtime, EXECUTION, documents).execute()
    told = json.dumps(answer) + b"".join(entry[b"event"] for _, entry in connection.xrange("events:alice")).decode()
    assert answer["status"] == "failure"
    assert "the result of task type split is not of the form that it declares (in rows)" in told
    assert "quagga" not in told
    assert "('rows',)" in caplog.text
