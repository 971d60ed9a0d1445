"""What the API has promised is kept, or its end is a decision that docs/api-changes.md lists."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest
import yaml

from controlplane.environment import ROOT
from tests.api_changes import breaking
from tests.described import document

LISTED = re.compile(r"^- `(.+?)`", re.M)


def test_nothing_that_was_released_is_broken_without_a_decision() -> None:
    released = yaml.load((ROOT / "docs/openapi-released.yaml").read_text(), Loader=yaml.CSafeLoader)
    found = breaking(released, document())
    listed = LISTED.findall((ROOT / "docs/api-changes.md").read_text())
    assert [change for change in found if change not in listed] == [], "keep these, or list them in docs/api-changes.md"
    assert [change for change in listed if change not in found] == [], "these are listed, and are no changes"


def _without_a_field(new: Any) -> None:
    del new["components"]["schemas"]["Task"]["properties"]["priority"]


def _without_a_path(new: Any) -> None:
    del new["paths"]["/api/v1/tasks/{id}/"]


def _without_a_method(new: Any) -> None:
    del new["paths"]["/api/v1/tasks/{id}/"]["delete"]


def _another_name(new: Any) -> None:
    new["paths"]["/api/v1/tasks/"]["get"]["operationId"] = "tasks"


def _another_type(new: Any) -> None:
    new["components"]["schemas"]["Task"]["properties"]["version"]["type"] = "string"


def _perhaps_null(new: Any) -> None:
    new["components"]["schemas"]["Task"]["properties"]["name"]["type"] = ["string", "null"]


def _without_a_status(new: Any) -> None:
    new["components"]["schemas"]["ExecutionStatus"]["enum"].remove("RETRY")


def _a_required_field(new: Any) -> None:
    new["components"]["schemas"]["TaskRequest"]["required"].append("description")


def _perhaps_missing(new: Any) -> None:
    new["components"]["schemas"]["Task"]["required"].remove("name")


def _a_smaller_limit(new: Any) -> None:
    new["components"]["schemas"]["TaskRequest"]["properties"]["name"]["maxLength"] = 10


def _without_a_parameter(new: Any) -> None:
    found = new["paths"]["/api/v1/tasks/"]["get"]["parameters"]
    found[:] = [parameter for parameter in found if parameter.get("name") != "ordering"]


def _a_required_parameter(new: Any) -> None:
    new["components"]["parameters"]["Idempotency-Key"]["required"] = True


def _without_a_form(new: Any) -> None:
    content = new["paths"]["/api/v1/executions/{id}/result/tables/{number}/"]["get"]["responses"]["200"]["content"]
    del content["text/csv"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_without_a_field, "answer Task.priority: removed"),
        (_without_a_path, "PATCH /api/v1/tasks/{id}/: removed"),
        (_without_a_method, "DELETE /api/v1/tasks/{id}/: removed"),
        (_another_name, "GET /api/v1/tasks/: is called tasks, was tasks_list"),
        (_another_type, "answer Task.version: is string, was integer"),
        (_perhaps_null, "answer Task.name: is null or string, was string"),
        (_without_a_status, "answer ExecutionStatus: no RETRY"),
        (_a_required_field, "request TaskRequest.description: is required"),
        (_perhaps_missing, "answer Task.name: may be missing"),
        (_a_smaller_limit, "request TaskRequest.name: maxLength is 10, was 100"),
        (_without_a_parameter, "GET /api/v1/tasks/ query ordering: removed"),
        (_a_required_parameter, "POST /api/v1/tasks/ header Idempotency-Key: is required"),
        (_without_a_form, "GET /api/v1/executions/{id}/result/tables/{number}/ 200: no text/csv"),
    ],
)
def test_what_breaks_a_service_is_found(change: Any, told: str) -> None:
    new = deepcopy(document())
    change(new)
    assert told in breaking(document(), new)


def test_what_is_added_breaks_nothing() -> None:
    new = deepcopy(document())
    new["paths"]["/api/v1/more/"] = new["paths"]["/api/v1/tasks/"]
    new["components"]["schemas"]["Task"]["properties"]["more"] = {"type": "string"}
    new["components"]["schemas"]["Task"]["required"].append("more")
    new["components"]["schemas"]["TaskRequest"]["properties"]["more"] = {"type": "string"}
    assert breaking(document(), new) == []
    assert breaking(document(), document()) == []
