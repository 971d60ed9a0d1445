"""What the canvas of a pipeline's form is told of the rows: places, lines, problems."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.urls import reverse

from tests.composed import admin_client, make_chain, make_user, superuser

pytestmark = pytest.mark.django_db
DRAW = "admin:controlplane_pipeline_draw"
ROWS = (
    {"name": "join", "task": "intersect", "after": ""},
    {"name": "fit", "task": "train"},
    {"name": "last", "task": "more", "after": "fit, join"},
    {"name": "wrong", "task": "nothing"},
    {"name": "", "task": "train"},
    {"task": "train"},
    7,
)


def drawn(client: Any, nodes: Any) -> Any:
    return client.post(reverse(DRAW), {"nodes": nodes if isinstance(nodes, str) else json.dumps(nodes)})


def test_it_has_places_lines_and_problems() -> None:
    make_chain()
    found = drawn(admin_client(superuser()), ROWS).json()
    assert set(found["nodes"]) == {"join", "fit", "last", "wrong"}
    assert {name for name, node in found["nodes"].items() if node["wrong"]} == {"wrong"}
    assert len({(node["x"], node["y"]) for node in found["nodes"].values()}) == 4
    assert {(line["from"], line["to"], line["own"]) for line in found["lines"]} == {
        ("join", "fit", False), ("join", "last", True), ("fit", "last", True),
    }  # fmt: skip
    assert found["problems"] == ["wrong.task: there is no task of this name; known: again, intersect, more, train"]


@pytest.mark.parametrize("nodes", ["", "{", "7", "{}", "[[[[", "[" * 100_000, '[{"name": {}, "task": []}]', "null"])
def test_what_is_no_list_of_rows_is_an_empty_drawing(nodes: str) -> None:
    answer = drawn(admin_client(superuser()), nodes)
    assert answer.status_code == 200
    assert answer.json() == {"nodes": {}, "lines": [], "notes": [], "problems": []}


@pytest.mark.parametrize("task", [None, 7, [], {}, "x" * 10_000])
def test_a_task_that_is_none_is_a_problem(task: Any) -> None:
    found = drawn(admin_client(superuser()), [{"name": "a", "task": task, "after": task}]).json()
    assert found["nodes"]["a"]["wrong"]
    assert found["problems"]


def test_a_circle_is_named() -> None:
    make_chain()
    rows = [{"name": "a", "task": "intersect", "after": "b"}, {"name": "b", "task": "again", "after": "a"}]
    found = drawn(admin_client(superuser()), rows).json()
    assert "waits for itself" in found["problems"][0]


def test_who_may_not_change_pipelines_is_refused() -> None:
    make_chain()
    viewer = admin_client(make_user("viewer", "view_pipeline"))
    assert drawn(viewer, ROWS).status_code == 403
    assert admin_client(superuser()).get(reverse(DRAW)).status_code == 405


def test_tasks_of_other_parties_are_not_shown() -> None:
    make_chain()
    stranger = admin_client(make_user("stranger", "add_pipeline", parties=()))
    found = drawn(stranger, ROWS).json()
    assert all(node["wrong"] for node in found["nodes"].values())
    assert found["lines"] == []


@pytest.mark.parametrize("name", ["\\u0000", "\\ud800"])
def test_a_text_that_no_database_takes_is_a_problem(name: str) -> None:
    found = drawn(admin_client(superuser()), f'[{{"name": "{name}", "task": "{name}"}}]').json()
    assert found["nodes"] == {}
    assert found["problems"]


def test_a_name_that_is_given_twice_is_a_problem() -> None:
    make_chain()
    rows = [{"name": "a", "task": "intersect"}, {"name": "a", "task": "again"}]
    found = drawn(admin_client(superuser()), rows).json()
    assert found["problems"] == ["a: named twice; name each node once."]
