"""Whatever is sent as documents is answered with a run or with problems, never with another exception."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.composed import api_client
from tests.composed import documents as submitted
from tests.rules import RULES
from tests.rules.base import AT_A_PARTY, BASES, TRIAL, Documents, Known
from workers.contract.layers import layers
from workers.contract.problems import DocumentsInvalid
from workers.contract.validation import Run, parse_document, validate

KEYS = sorted({step for rule in RULES for step in rule.path.split("/")})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**63, max_value=2**2000)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["alice", "bob", "people", "uid", "[::1]:1", "h:0", "9" * 5000, "\0", "\ud800", "x" * 300])
)
NAMES = st.sampled_from(KEYS) | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)


def places(value: Any, container: Any = None, key: Any = None) -> Iterator[tuple[Any, Any]]:
    """Every container in a document with each of its keys."""
    if container is not None:
        yield container, key
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for inner_key, inner in items:
        yield from places(inner, value, inner_key)


@st.composite
def mutated(draw: st.DrawFn, bases: tuple[Documents, ...]) -> Any:
    """A valid set of documents with up to four things in it replaced, removed or added anywhere."""
    documents = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(1, 4))):
        found = list(places(documents))
        if not found:
            break
        container, key = found[draw(st.integers(0, len(found) - 1))]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "remove":
                del container[key]
            case "add" if isinstance(container, dict):
                container[draw(NAMES)] = draw(JSON)
            case "add":
                container.insert(key, draw(JSON))
            case _:
                container[key] = draw(JSON)
    return documents


def assert_judged(documents: Any, known: Known) -> None:
    problems = None
    try:
        validate(documents, known)
    except DocumentsInvalid as error:
        problems = error.problems
    assert problems is None or (problems and all(problem.wrong for problem in problems))


@settings(max_examples=200, deadline=None)
@given(layer=st.sampled_from(layers()), document=JSON)
def test_it_judges_any_json_as_a_document(layer: str, document: Any) -> None:
    parsed, problems = parse_document(layer, document)
    assert parsed is not None or problems
    assert_judged(BASES[0]() | {layer: document}, Known())


@settings(max_examples=100, deadline=None)
@given(documents=st.dictionaries(st.sampled_from(layers()) | st.text(max_size=8), JSON, max_size=5))
def test_it_judges_any_json_as_the_documents(documents: Any) -> None:
    assert_judged(documents, Known())


@settings(max_examples=250, deadline=None)
@given(documents=mutated(tuple(base() for base in BASES)), known=st.sampled_from([Known(), TRIAL, AT_A_PARTY]))
def test_it_judges_documents_with_anything_in_them_changed(documents: Any, known: Known) -> None:
    assert_judged(documents, known)


@pytest.mark.django_db
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.data())
def test_the_api_judges_them_too(parties: Any, body: st.DataObject) -> None:
    client = api_client(User(pk=1, username="root", is_superuser=True))
    sent = body.draw(mutated((submitted(),)) | st.dictionaries(st.sampled_from(layers()), JSON, max_size=5))
    response = client.post("/api/v1/executions/dry-run/", json.dumps(sent), content_type="application/json")
    assert response.status_code in (200, 400), response.content
    if response.status_code == 400:
        found = response.json()
        assert found["errors"]
        assert all(entry["detail"] for entry in found["errors"])


def test_the_mutations_reach_every_layer() -> None:
    assert {key for base in BASES for _, key in places(base())} >= {*layers(), "parties", "address", "input_keys", 0}


def test_documents_that_nothing_was_changed_in_are_valid() -> None:
    for base in BASES:
        assert isinstance(validate(base(), AT_A_PARTY), Run)
