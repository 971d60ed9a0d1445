"""What is told of the task types, in the admin, the API and on the command line, is what their models say."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from controlplane.task_types import parameters
from tests.composed import make_user
from workers.executors import TASK_EXECUTOR_REGISTRY
from workers.validation import validate

TYPES = sorted(TASK_EXECUTOR_REGISTRY)


def told(task_type: str) -> dict[str, Any]:
    return {p.path: p for p in parameters(TASK_EXECUTOR_REGISTRY[task_type])}


def test_it_tells_what_each_parameter_may_be() -> None:
    lr = told("lr")
    assert lr["ml_params.features"].kind == "for each party: list: column"
    assert lr["ml_params.features"].required
    epochs = lr["ml_params.training_params.epochs"]
    assert (epochs.kind, epochs.required, epochs.default) == ("whole number from 1 to 1000", False, "5")
    assert lr["ml_params.training_params.learning_rate"].kind == "number above 0 to 100"
    assert lr["ml_params.label.party"].kind == "party"
    assert lr["ml_params.standardize"].kind == "true or false"
    assert told("psi")["psi_params.protocol"].kind.startswith("one of PROTOCOL_RR22, ")


@pytest.mark.parametrize("task_type", ["psi", "lr", "he_sum"])
def test_its_example_is_valid(task_type: str) -> None:
    documents = {
        "sf_init_config": {"parties": ["alice", "bob"]},
        "spu_config": {},
        "heu_config": {},
        "task_config": TASK_EXECUTOR_REGISTRY[task_type].example,
    }
    assert validate(documents).task.task_type == task_type


@pytest.mark.django_db
def test_services_and_operators_are_told_the_same() -> None:
    service = APIClient()
    assert service.get("/api/v1/task-types/").status_code == 401
    user = make_user("operator", "view_task")
    service.force_authenticate(user)
    types = {t["name"]: t for t in service.get("/api/v1/task-types/").json()}
    assert sorted(types) == TYPES
    assert types["psi"]["devices"] == ["spu"]
    assert types["psi"]["params_schema"]["properties"]["receivers"]["minItems"] == 1
    client = Client()
    client.force_login(user)
    page = client.get("/admin/controlplane/task/types/").content.decode()
    for task_type in TYPES:
        assert f'id="{task_type}"' in page
        for parameter in parameters(TASK_EXECUTOR_REGISTRY[task_type]):
            assert parameter.path in page


def test_the_command_tells_too() -> None:
    def said(*args: str) -> str:
        out = StringIO()
        call_command("task_types", *args, stdout=out)
        return out.getvalue()

    assert all(name in said() for name in TYPES)
    assert "ml_params.training_params.epochs: whole number from 1 to 1000 (default 5)" in said("lr")
    with pytest.raises(CommandError, match="did you mean 'psi'"):
        said("psy")
