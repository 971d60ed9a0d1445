"""The id of a request: in its answer, in the log, and in what it leaves behind."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from controlplane import request_id
from controlplane.audit.chain import BEGINNING, hash_of, seal, verify
from controlplane.models import AuditEntry, Party
from executions.models import Execution
from tests.composed import documents

pytestmark = pytest.mark.django_db
API = "/api/v1"


def test_an_answer_has_the_id_of_its_request(api: APIClient) -> None:
    assert api.get(f"{API}/tasks/", HTTP_X_REQUEST_ID="nightly-7.a_b")["X-Request-ID"] == "nightly-7.a_b"
    missing = api.get(f"{API}/tasks/99/", HTTP_X_REQUEST_ID="mine")
    assert missing.json()["request_id"] == missing["X-Request-ID"] == "mine"
    assert api.get(f"{API}/nothing/", HTTP_X_REQUEST_ID="mine").json()["request_id"] == "mine"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\tb", "<script>", "ä"])
def test_an_id_that_could_do_harm_is_not_taken(given: str) -> None:
    first, second = (Client().get("/healthz", HTTP_X_REQUEST_ID=given)["X-Request-ID"] for _ in range(2))
    assert first != second
    assert len(first) == len(second) == 32
    assert request_id.current() == ""


def test_what_a_request_leaves_behind_has_its_id(api: APIClient, parties: dict[str, Party]) -> None:
    made = api.post(f"{API}/executions/", documents(), format="json", HTTP_X_REQUEST_ID="job-1").json()
    assert made["request_id"] == Execution.objects.get().request_id == "job-1"
    api.post(f"{API}/spu-configs/", {"name": "x"}, format="json", HTTP_X_REQUEST_ID="job-2")
    assert set(AuditEntry.objects.values_list("request_id", flat=True)) == {"", "job-1", "job-2"}
    assert Execution.objects.submit(documents()).request_id == ""


def test_the_id_of_an_entry_is_sealed_and_entries_without_keep_their_hash(api: APIClient) -> None:
    api.post(f"{API}/spu-configs/", {"name": "x"}, format="json", HTTP_X_REQUEST_ID="job")
    while seal():
        pass
    assert verify().problems == []
    entry = AuditEntry.objects.get(request_id="job")
    with_id = hash_of(entry, BEGINNING)
    entry.request_id = ""
    assert hash_of(entry, BEGINNING) != with_id
    AuditEntry.objects.filter(pk=entry.pk).update(request_id="another")
    assert "was changed" in verify().problems[0]


def test_the_log_has_a_line_for_each_request(api: APIClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "controlplane.requests")
    api.get(f"{API}/tasks/?name=secret", HTTP_X_REQUEST_ID="mine")
    api.get("/healthz")
    [record] = [record for record in caplog.records if record.name == "controlplane.requests"]
    assert record.getMessage() == "GET /api/v1/tasks/ 200"
    assert (record.__dict__["user"], record.__dict__["status"]) == ("root", 200)


def formatted(formatter: logging.Formatter, **of: Any) -> str:
    return formatter.format(logging.LogRecord("x", logging.WARNING, "", 1, "it %s", ("broke",), None, **of))


def test_lines_for_people_and_for_machines_have_the_id() -> None:
    line, machine = request_id.Line("{levelname}: {message}", style="{"), request_id.as_json()
    assert formatted(line) == "WARNING: it broke"
    assert "request_id" not in json.loads(formatted(machine))
    token = request_id._current.set("mine")
    try:
        assert formatted(line) == "WARNING: it broke [mine]"
        found = json.loads(formatted(machine))
    finally:
        request_id._current.reset(token)
    assert (found["event"], found["level"], found["logger"], found["request_id"]) == (
        "it broke",
        "warning",
        "x",
        "mine",
    )
    assert found["timestamp"].endswith("Z")


def test_the_settings_choose_how_the_log_is_written() -> None:
    code = "import django, logging; django.setup(); logging.getLogger('x').warning('it is %s', 'said')"
    environment = {**os.environ, "CONTROLPLANE_LOG_FORMAT": "json"}
    made = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(made.stderr.splitlines()[-1])["event"] == "it is said"


def test_a_user_who_is_nobody_is_logged_as_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "controlplane.requests")
    User.objects.create_user("ann")
    APIClient().get(f"{API}/tasks/")
    assert [r.__dict__["user"] for r in caplog.records if r.name == "controlplane.requests"] == [""]
