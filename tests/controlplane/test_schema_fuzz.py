"""A short try of the API with what its description allows, and with what it does not; `make fuzz-api` is the long
one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from redis import Redis
from rest_framework.test import APIClient
from schemathesis.config import SchemathesisConfig

from controlplane.models import TokenTerms
from tests.composed import superuser
from tests.described import PreparedSite, document

CONFIG = Path(__file__).parents[1] / "schemathesis.toml"
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


@contextmanager
def one_connection() -> Iterator[None]:
    """All requests have the test's own connection to the database, as Django's test client has it."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def tried(case: Any) -> None:
    case.call_and_validate()


@pytest.mark.django_db
def test_it_answers_as_described(api: APIClient, connection: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    PreparedSite(api)
    monkeypatch.setenv("FUZZ_TOKEN", TokenTerms.make_token(superuser(), "fuzz")[1])
    monkeypatch.setenv("FUZZ_PASSWORD", "")
    schema = schemathesis.openapi.from_dict(document(), config=SchemathesisConfig.from_path(CONFIG))
    schema.app = get_wsgi_application()
    few = settings(
        max_examples=2, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    labels = set()
    with one_connection():
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.schema.config.operations.get_for_operation(operation).enabled:
                for mode in MODES:
                    with suppress(Unsatisfiable):  # there is nothing that it does not allow
                        few(given(case=operation.as_strategy(generation_mode=mode))(tried))()
                labels.add(operation.label)
    assert len(labels) > 80
