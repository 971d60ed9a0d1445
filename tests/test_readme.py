"""What README has a service send is taken, word for word and in its order."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from controlplane.models import Dataset
from executions.trial import ROOT
from tests.composed import make_parties
from workers.validation import validate

README = (ROOT / "README.md").read_text()


@pytest.mark.django_db
def test_what_it_registers_and_runs_is_taken() -> None:
    make_parties()
    Dataset.objects.all().delete()
    client = APIClient()
    client.force_authenticate(User.objects.create_superuser("operator"))
    posts = re.findall(r"^\$ post ([\w-]+) '(.*?)'$", README, re.MULTILINE | re.DOTALL)
    assert {"datasets", "cluster-configs", "tasks", "executions", "pipelines", "pipeline-runs"} <= {
        to for to, _ in posts
    }
    for to, body in posts:
        response = client.post(f"/api/v1/{to}/", json.loads(body), format="json")
        assert response.status_code == 201, (to, body, response.json())


def test_the_four_documents_are_valid() -> None:
    [documents] = [found for found in _json_blocks() if "sf_init_config" in found]
    assert validate(documents).task.keep_devices_seconds == 600


def _json_blocks() -> list[Any]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", README, re.DOTALL)]
