"""Validation of the four documents together. The rules themselves are in tests.rules."""

from __future__ import annotations

from tests.rules.base import changed, problems, psi

PSI = "task_config/algorithm_params/psi_params"
PSI_PATH = "task_config.algorithm_params.psi_params"


def test_it_reports_all_problems_of_all_documents_at_once() -> None:
    documents = changed(psi(), "sf_init_config/partys", [])
    documents = changed(documents, "spu_config", {"runtime_config": {"protocol": "ABY"}})
    documents = changed(documents, f"{PSI}/protocol", 3)
    assert set(problems(documents)) == {
        "sf_init_config.partys",
        "spu_config.runtime_config.protocol",
        f"{PSI_PATH}.protocol",
    }


def test_it_refuses_an_unknown_document_and_a_missing_one() -> None:
    documents = psi()
    documents["gpu_confg"] = documents.pop("spu_config")
    assert set(problems(documents)) >= {"gpu_confg", "spu_config"}


def test_it_never_repeats_a_value_it_refuses() -> None:
    secret = "hunter2-hunter2"
    for path in ("sf_init_config/mode", "spu_config/enable_spu", f"{PSI}/protocol", "task_config/outputs/alice"):
        found = problems(changed(psi(), path, secret + " "))
        assert found
        assert secret not in str(found)
