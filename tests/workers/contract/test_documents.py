"""Validation of the four documents together. The rules themselves are in tests.rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from tests.rules.base import changed, problems, psi
from workers.contract.layers import layers, model_of
from workers.contract.registry import TASK_EXECUTOR_REGISTRY

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


def test_a_task_type_without_parameters_need_not_be_told_so() -> None:
    executor = TASK_EXECUTOR_REGISTRY["apply_rule"]
    assert executor.parse_params({}) == executor.parse_params({"apply_rule_params": {}})


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


def test_every_field_says_what_it_is_for() -> None:
    """Forms, the API's reference and the list of task types say nothing else."""
    models = {layer: model_of(layer) for layer in layers()}
    models |= {name: executor.Params for name, executor in TASK_EXECUTOR_REGISTRY.items()}
    fields = {path: text for name, model in models.items() for path, text in descriptions(model, name)}
    assert len(fields) > 60
    assert [path for path, text in fields.items() if not text.endswith(".")] == []


def descriptions(model: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
    """Each field's path and description, those of the models within it included."""
    for name, field in model.model_fields.items():
        yield f"{path}.{name}", field.description or ""
        for inner in models_in(field.annotation):
            yield from descriptions(inner, f"{path}.{name}")


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def test_parameters_are_judged_in_a_task_that_is_wrong_elsewhere() -> None:
    documents = changed(psi(), "task_config/data_sources", {})
    documents = changed(documents, f"{PSI}/receivers", [])
    assert set(problems(documents)) == {"task_config.data_sources", f"{PSI_PATH}.receivers"}


def test_an_unknown_key_hides_no_other_problem() -> None:
    documents = psi()
    documents["task_config"] |= {"nope": 1, "data_sources": {"alice": "peple", "bob": "people"}}
    documents["spu_config"] = {"runtime_config": {"protocol": "ABY3", "feeld": "FM64"}}
    assert set(problems(documents)) == {
        "task_config.nope",
        "task_config.data_sources.alice",
        "spu_config.runtime_config.feeld",
        "spu_config.runtime_config.protocol",
    }
