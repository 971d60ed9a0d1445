"""What is told of the task types, in the admin, the API and on the command line, is what their models say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import escape
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from controlplane.environment import ROOT
from controlplane.examples import before, examples, request_of
from controlplane.task_types import parameters
from executions.api.submissions import SubmissionSerializer
from tests.composed import admin_client, api_client, make_user
from workers.contract.registry import DEVICE_REGISTRY, TASK_EXECUTOR_REGISTRY
from workers.contract.validation import validate

TYPES = sorted(TASK_EXECUTOR_REGISTRY)
COMPONENT = TASK_EXECUTOR_REGISTRY["component"]


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


def test_parts_of_lists_are_told_and_everything_has_words() -> None:
    case_when = {p.path: p for p in parameters(COMPONENT, "preprocessing/case_when")}
    whens = "component_params.attributes.rules.whens"
    assert case_when[whens].kind == "list of objects"
    assert case_when[f"{whens}[].conds[].cond_value.i"].help == "The number, for CONST_INT."
    assert case_when[f"{whens}[].conds[].cond_value.i"].kind == "whole number"  # no bounds: they are protobuf's
    assert told("group_by")["group_by_params.aggregates[].column"].kind == "column"
    for executor in TASK_EXECUTOR_REGISTRY.values():
        for variant in ("", *executor.variants()):
            for parameter in parameters(executor, variant):
                name = re.split(r"[.\[]", parameter.path.removesuffix("[]"))[-1]
                assert parameter.help.rstrip(".").lower() not in ("", name), (variant, parameter.path)


def test_it_tells_what_a_component_reads_and_keeps() -> None:
    def places(component: str) -> dict[str, tuple[str, tuple[str, ...]]]:
        return {p.name: (p.where, p.kinds) for p in COMPONENT.places(component)}

    assert places("preprocessing/substitution") == {
        "input_ds": ("data_sources", ("table",)),
        "input_rule": ("further_sources.input_rule", ("sf.rule.binning", "sf.rule.preprocessing")),
        "output_ds": ("outputs", ("table",)),
    }
    binning = places("preprocessing/vert_binning")
    assert binning["output_rule"] == ("further_outputs.output_rule", ("sf.rule.binning",))
    assert binning["report"] == ("the execution's result", ("sf.report",))
    assert places("io/identity")["input_data"][0] == "data_sources"  # nothing else is read
    assert places("data_prep/union")["input_ds2"][0] == "further_sources.input_ds2"
    assert COMPONENT.places("data_prep/psi")[1].help.endswith("data_sources will do.")
    assert [(p.name, p.where) for p in TASK_EXECUTOR_REGISTRY["lr"].places("")] == [("model", "further_outputs.model")]


@pytest.mark.parametrize("name", examples())
def test_its_request_is_valid_as_it_is(name: str) -> None:
    request = request_of(examples()[name])
    run = validate(request)
    on = {DEVICE_REGISTRY[layer].name for layer in run.devices}
    assert on == set(run.executor.needs(run.executor.parse_params(run.task.algorithm_params)))
    assert set(request) <= set(SubmissionSerializer().fields)


def test_who_keeps_the_sums_has_the_key() -> None:
    example = {**TASK_EXECUTOR_REGISTRY["he_sum"].example, "outputs": {"bob": "sums"}}
    assert request_of(example)["heu_config"] == {"sk_keeper": "bob"}
    validate(request_of(example))


def test_an_example_says_what_comes_before_it() -> None:
    assert before(examples()["psi"]) == []
    assert before(examples()["component:preprocessing/substitution"]) == [
        "Run the example of component:data_prep/train_test_split first: it keeps train_test_split_test_ds.",
        "Run the example of component:preprocessing/vert_binning first: it keeps vert_binning_output_rule.",
    ]
    [carol] = before(examples()["component:data_prep/psi_tp"])
    assert carol.startswith("The demo has no party carol")


@pytest.mark.django_db
def test_services_and_operators_are_told_the_same() -> None:
    assert APIClient().get("/api/v1/task-types/").status_code == 401
    user = make_user("operator", "view_task")
    types = {t["name"]: t for t in api_client(user).get("/api/v1/task-types/").json()}
    assert sorted(types) == TYPES
    assert types["psi"]["devices"] == ["spu"]
    assert types["psi"]["params_schema"]["properties"]["receivers"]["minItems"] == 1
    assert types["psi"]["request"]["task_config"] == types["psi"]["example"]
    variants = {f"component:{v['name']}": v for v in types["component"]["variants"]}
    assert len(variants) == 53
    page = admin_client(user).get("/admin/controlplane/task/types/").content.decode()
    for task_type in TYPES:
        assert f'id="{task_type}"' in page
        for parameter in parameters(TASK_EXECUTOR_REGISTRY[task_type]):
            assert parameter.path in page
    for name, variant in variants.items():
        assert variant["request"] == (request_of(examples()[name]) if name in examples() else {})
        assert bool(variant["cannot_run"]) == (name not in examples())
        assert escape(variant["cannot_run"] or json.dumps(variant["request"], indent=2)) in page
        if not variant["cannot_run"]:
            assert all(escape(place["where"]) in page for place in variant["places"])


def test_the_command_tells_too() -> None:
    def said(*args: str) -> str:
        out = StringIO()
        call_command("task_types", *args, stdout=out)
        return out.getvalue()

    assert all(name in said() for name in TYPES)
    assert "ml_params.training_params.epochs: whole number from 1 to 1000 (default 5)" in said("lr")
    substitution = said("component:preprocessing/substitution")
    assert "input_rule: further_sources.input_rule (sf.rule.binning or sf.rule.preprocessing)" in substitution
    begin = substitution.index("\n{") + 1
    assert json.loads(substitution[begin:]) == request_of(examples()["component:preprocessing/substitution"])
    assert "Cannot run here: sends a table" in said("component:io/data_sink")
    with pytest.raises(CommandError, match="did you mean 'psi'"):
        said("psy")
    with pytest.raises(CommandError, match="did you mean 'stats/ss_vif'"):
        said("component:stats/ss_vi")


def test_nothing_is_said_to_who_has_read_enough() -> None:
    command = [sys.executable, "manage.py", "task_types", "component"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == ""
    assert process.returncode == 0
