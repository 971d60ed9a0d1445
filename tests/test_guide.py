"""What docs/ has a service send is taken, word for word and in its order; what is made from the models is not stale."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from controlplane.environment import ROOT
from controlplane.models import Dataset
from tests.composed import api_client, make_parties, superuser
from workers.contract.validation import validate

GUIDE = (ROOT / "docs/services.md").read_text()


@pytest.mark.django_db
def test_what_it_registers_and_runs_is_taken() -> None:
    make_parties()
    Dataset.objects.all().delete()
    client = api_client(superuser())
    posts = re.findall(r"^\$ post ([\w-]+) '(.*?)'$", GUIDE, re.MULTILINE | re.DOTALL)
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
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)]


def test_the_page_of_task_types_is_not_stale() -> None:
    made = StringIO()
    call_command("task_types", markdown=True, stdout=made)
    assert (ROOT / "docs/task-types.md").read_text() == made.getvalue(), "run `make docs`"


def test_links_between_the_guides_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]*)", page.read_text()):
            assert not target or (page.parent / target).exists(), (page.name, target)
