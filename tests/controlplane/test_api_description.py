"""The API's description: complete, in step with the code, and its examples work as they are written."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from redis import Redis
from rest_framework.test import APIClient

from controlplane.api import examples
from controlplane.environment import ROOT
from tests.composed import make_user, superuser, token_client
from tests.described import FILE, REGISTERED, Operation, PreparedSite, document, operations, problems_of, resolved

ANSWERS = Path(examples.__file__).with_name("answers.json")
STREAM = "text/event-stream"
#: Their examples cannot be recorded: they are streams, or about the sender itself.
UNRECORDED = ("events_stream",)


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.id)
def test_an_operation_is_described(operation: Operation) -> None:
    told = operation.told
    assert 0 < len(told["summary"]) <= 50
    assert told["description"].endswith((".", "`."))
    assert told["security"]
    assert len(told["tags"]) == 1
    assert not operation.id.startswith("api_")
    if "requestBody" in told:
        assert [name for name, _ in operation.requests()] != [""], "no example of a request"
    code, answer = operation.success()
    for content in answer.get("content", {}).values():
        assert "example" in content, "no example of an answer"
    assert {"400", "401", "406", "500", "503"} <= set(told["responses"])
    parameters = [resolved(parameter) for parameter in told.get("parameters", ())]
    assert [parameter["name"] for parameter in parameters if not parameter.get("description")] == []
    names = {parameter["name"] for parameter in parameters}
    if operation.method != "get" and not operation.id.startswith("auth_"):
        assert {"Idempotency-Key", "dry_run"} <= names
        assert {"409", "422"} <= set(told["responses"])
    if operation.method == "get" and operation.id not in UNRECORDED:
        assert "If-None-Match" in names
        assert "304" in told["responses"]
        assert "ETag" in answer["headers"]
    if operation.method in ("put", "patch", "delete"):
        assert "If-Match" in names
        assert "412" in told["responses"]
    assert ("Location" in answer["headers"]) == (code == 201)
    for status, media_type, content in operation.answers():
        assert (media_type == "application/problem+json") == (int(status) >= 400)
        assert int(status) < 400 or content["schema"] == {"$ref": "#/components/schemas/ErrorBody"}


def test_its_names_are_unique_and_its_tags_are_described() -> None:
    names = [operation.id for operation in operations()]
    assert len(set(names)) == len(names)
    assert {tag for operation in operations() for tag in operation.told["tags"]} == {
        tag["name"] for tag in document()["tags"] if tag["description"]
    }
    assert set(document()["components"]["securitySchemes"]) == {"token", "password", "session"}
    linked = {
        link["operationId"]
        for operation in operations()
        for link in operation.success()[1].get("links", {}).values()
    }  # fmt: skip
    assert linked <= set(names)


def test_the_file_is_not_stale(tmp_path: Path) -> None:
    """In a process of its own: here the plugin of the tests adds devices."""
    made = tmp_path / "openapi.yaml"
    # The file is made with SQLite, which has larger integers
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DATABASE_URL")}
    subprocess.run(
        [sys.executable, "manage.py", "spectacular", "--validate", "--fail-on-warn", "--file", made],
        cwd=ROOT, env=environment, check=True, timeout=60,
    )  # fmt: skip
    assert FILE.read_text() == made.read_text(), "run `make docs`"


def test_every_example_is_of_its_schema() -> None:
    wrong = {}
    for operation in operations():
        body = operation.told.get("requestBody", {}).get("content", {}).get("application/json", {})
        for name, request in operation.requests():
            if request is not None and (found := problems_of(request, body["schema"])):
                wrong[operation.id, name] = found
        for code, media_type, content in operation.answers():
            if "example" in content and (found := problems_of(content["example"], content["schema"])):
                wrong[operation.id, f"{code} {media_type}"] = found
    assert wrong == {}


@pytest.fixture
def site(api: APIClient, connection: Redis) -> PreparedSite:
    return PreparedSite(api)


def _client(site: PreparedSite, operation: Operation) -> APIClient:
    if operation.id == "auth_login":
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION="Basic " + base64.b64encode(b"root:a long password").decode())
        return client
    return token_client(superuser()) if operation.id == "auth_logout" else site.client


def _sent(site: PreparedSite, operation: Operation, body: Any, media_type: str) -> Any:
    """What the site answers; afterwards it is as before."""
    with transaction.atomic():
        if operation.id.removesuffix("_create") in REGISTERED:  # the site was prepared with it
            site.client.delete(f"{operation.path}{site.ids[operation.id.removesuffix('_create')]}/")
        send = getattr(_client(site, operation), operation.method)
        asked = {"HTTP_ACCEPT": f"{media_type}, application/problem+json"}
        response = send(site.address(operation), body, format="json", **asked) if body is not None else send(
            site.address(operation), **asked
        )  # fmt: skip
        response.content  # noqa: B018  as it is before all is undone
        transaction.set_rollback(True)
    return response


def test_every_request_is_accepted_and_answered_as_described(site: PreparedSite) -> None:
    user = superuser()
    user.set_password("a long password")
    user.save()
    recorded: dict[str, Any] = {}
    wrong = []
    for operation in operations():
        if operation.id in UNRECORDED:
            continue
        code, answer = operation.success()
        for media_type in [kind for kind in answer.get("content", {"*/*": {}}) if kind != STREAM]:
            for name, body in operation.requests():
                at = f"{operation.id} {name} {media_type}"
                response = _sent(site, operation, body, media_type)
                if response.status_code != code:
                    wrong.append(f"{at}: {response.status_code} {response.content[:500]!r}")
                    continue
                told = set(answer["headers"]) - {"Idempotency-Replayed", "Dry-Run", "Link"}
                wrong += [f"{at}: no {header}" for header in told if header not in response.headers]
                if media_type == "*/*":
                    assert not response.content
                    continue
                shown = response.json() if media_type == "application/json" else response.content.decode()
                content = answer["content"][media_type]
                wrong += [f"{at}: {problem}" for problem in problems_of(shown, content["schema"])]
                recorded.setdefault(f"{operation.id} {code} {media_type}", _steady(shown))
    assert wrong == []
    if os.environ.get("RECORD"):
        ANSWERS.write_text(json.dumps(recorded, indent=1) + "\n")
    kept = json.loads(ANSWERS.read_text())
    assert {at: _form(example) for at, example in recorded.items()} == {
        at: _form(example) for at, example in kept.items()
    }, "run `make api-examples`"


def test_nobody_unknown_is_answered(site: PreparedSite) -> None:
    for operation in operations():
        response = getattr(APIClient(), operation.method)(site.address(operation))
        assert response.status_code == 401, operation.id
        assert problems_of(response.json(), {"$ref": "#/components/schemas/ErrorBody"}) == []


def test_who_may_only_submit_is_answered_as_described(site: PreparedSite) -> None:
    make_user("ann", "add_execution", "change_execution", "view_task")
    client = token_client(User.objects.get(username="ann"))
    for operation in operations():
        if operation.id in ("executions_create", "executions_cancel", "executions_retry", "pipeline_runs_cancel"):
            body = next(operation.requests())[1]
            code, answer = operation.success()
            response = client.post(site.address(operation), body, format="json")
            assert response.status_code == code, (operation.id, response.content)
            assert set(response.json()) == {"id", "url", "status"}
            assert problems_of(response.json(), answer["content"]["application/json"]["schema"]) == []


def _steady(value: Any) -> Any:
    """Return an answer without what differs from one time to the next."""
    ids: dict[str, str] = {}

    def put(text: str) -> str:
        text = text.replace("http://testserver", "https://control.example")
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)", "2026-12-01T08:00:00Z", text)
        text = re.sub(r"whsec_[\w+/=]+", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", text)
        text = re.sub(r"\b[0-9a-f]{64}\b", "5c0b" + 60 * "0", text)
        for found in re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", text):
            ids.setdefault(found, str(uuid.UUID(int=0x6A0E3C1B93B54D6F9A556C1F0B7A2D11 + len(ids))))
            text = text.replace(found, ids[found])
        return text

    def walk(part: Any) -> Any:
        if isinstance(part, dict):
            return {put(name): walk(each) for name, each in part.items()}
        if isinstance(part, list):
            return [walk(each) for each in part]
        return put(part) if isinstance(part, str) else round(part, 1) if isinstance(part, float) else part

    if isinstance(value, list):  # of task types: one is enough of an example
        value = [entry for entry in value if entry["name"] == "psi"]
    return walk(value)


def _form(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _form(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_form(each) for each in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
