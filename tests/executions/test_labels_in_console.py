"""Labels and deadlines in the console: on the page of an execution, and as a filter of the list."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from controlplane.models import Task
from controlplane.roles import VIEWER, make_roles
from executions.models import Execution
from tests.composed import admin_client, errors_of, make_task
from tests.listed import EXECUTIONS, rows_of, text_of
from tests.walked import Circle, in_role

pytestmark = pytest.mark.django_db


def submit(**fields: Any) -> Execution:
    task = Task.objects.first() or make_task()
    return Execution.objects.submit(task.documents(), task=task, **fields)


@pytest.fixture
def made(db: None) -> list[Execution]:
    labels = [{"team": "risk", "env": "prod"}, {"team": "risk"}, {"team": "fraud & co: x", "env": "prod"}, {}]
    return [submit(labels=found) for found in labels]


def test_the_page_shows_labels_and_deadline_and_leads_to_all_with_a_label(admin: Client) -> None:
    deadline = timezone.now() + timedelta(hours=5, minutes=1)
    execution = submit(labels={"team": "fraud & co: x", "empty": ""}, deadline=deadline)
    other = submit()
    page = text_of(admin, f"{EXECUTIONS}{execution.pk}/change/")
    assert "in 5 h" in page.partition("Deadline")[2]
    links = re.findall(r'href="(/admin/executions/execution/\?label=[^"]*)"[^>]*>([^<]*)<', page)
    assert [said for _, said in links] == ["empty", "team: fraud &amp; co: x"]
    for url, _ in links:
        assert rows_of(admin, url) == [execution.pk]
    fragment = admin.get(f"{EXECUTIONS}{execution.pk}/change/?fragment=1").content.decode()
    assert "fraud &amp; co" in fragment
    page = text_of(admin, f"{EXECUTIONS}{other.pk}/change/")
    assert "Deadline" not in page
    assert "cp-labels" not in page


def test_the_list_is_filtered_by_labels_as_the_api_does(
    admin: Client, api: APIClient, made: list[Execution], monkeypatch: pytest.MonkeyPatch
) -> None:
    for query, rows in {
        "label=team:risk": [1, 0], "label=env": [2, 0], "label=env:prod&label=team:risk": [0], "label=team:nosuch": [],
        "label=team:fraud %26 co: x": [2], "label=": [3, 2, 1, 0], "label=env&label=": [2, 0], "label=env:": [],
        "label=team&o=5": [0, 1, 2], "label=team&status__exact=QUEUED": [2, 1, 0], "label=team&q=nosuch": [],
    }.items():  # fmt: skip
        keys = [made[at].pk for at in rows]
        assert rows_of(admin, f"{EXECUTIONS}?{query}") == keys, query
        if "o=" not in query and "q=" not in query and "status" not in query:
            told = api.get(f"/api/v1/executions/?{query}").json()["results"]
            assert [row["id"] for row in told] == [str(key) for key in keys]
    monkeypatch.setattr("executions.admin.executions.ExecutionAdmin.list_per_page", 2)
    with CaptureQueriesContext(database) as found:
        assert rows_of(admin, f"{EXECUTIONS}?label=team&p=2") == [made[0].pk]
    sql = next(query["sql"] for query in found if "ORDER BY" in query["sql"] and "executions_label" in query["sql"])
    order = sql.partition("ORDER BY")[2]
    assert '"executions_execution"."created_at"' not in order, "it is by the index of labels"


def test_each_label_has_its_field_and_others_are_suggested(admin: Client, made: list[Execution]) -> None:
    page = admin.get(f"{EXECUTIONS}?label=env:prod&label=team:risk&status__exact=QUEUED").content.decode()
    values = re.findall(r'<input type="text"[^>]*name="label"[^>]*>', page)
    assert len(values) == 3
    assert 'value="env:prod"' in values[0]
    assert 'value="team:risk"' in values[1]
    assert '<option value="team:fraud &amp; co: x">' in page
    assert "label=env%3Aprod&amp;label=team%3Arisk" in page, "other filters keep both"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("label=:x", "names no key; give a label as key:value, or a key alone"),
        ("label=team&label=:x", "names no key; give a label as key:value, or a key alone"),
        ("label=a%00b", "Null characters are not allowed"),
        ("&".join(f"label=k{n}" for n in range(21)), "There may be up to 20 labels."),
    ],
)
def test_it_says_what_is_wrong_with_a_label(
    admin: Client, api: APIClient, made: list[Execution], query: str, words: str
) -> None:
    response = admin.get(f"{EXECUTIONS}?{query}")
    page = response.content.decode()
    assert (response.status_code, list(response.context["cl"].result_list)) == (200, [])
    assert page.count(words) == 2, "in the list, which has no rows then, and at the field"
    assert words in errors_of(api.get(f"/api/v1/executions/?{query}"))["label"]
    assert admin.get(f"{EXECUTIONS}csv/?{query}").status_code == 200


def test_labels_of_other_parties_are_not_told(transactional_db: None) -> None:
    make_roles()
    mine, others = Circle.make("alice", "bob", 20000), Circle.make("carol", "dave", 22000)
    own, other = (
        Execution.objects.submit(circle.rows["task"].documents(), labels={"team": circle.names[0]})
        for circle in (mine, others)
    )
    viewer = admin_client(in_role("viewer", VIEWER, mine.names))
    assert rows_of(viewer, f"{EXECUTIONS}?label=team") == [own.pk]
    assert rows_of(viewer, f"{EXECUTIONS}?label=team:carol") == []
    page = text_of(viewer, EXECUTIONS)
    assert "team:alice" in page
    assert "carol" not in page
    assert viewer.get(f"{EXECUTIONS}{other.pk}/change/").status_code == 404


def test_a_page_takes_as_many_queries_however_many_labels_there_are(admin: Client) -> None:
    def queries(path: str) -> int:
        with CaptureQueriesContext(database) as found:
            assert admin.get(path).status_code == 200
        return len(found)

    first = submit(labels={"team": "risk"})
    paths = [f"{EXECUTIONS}?label=team:risk", f"{EXECUTIONS}?label=team&label=env", f"{EXECUTIONS}{first.pk}/change/"]
    few = [queries(path) for path in paths]
    for number in range(20):
        submit(labels={"team": "risk", **{f"k{n}": str(number) for n in range(19)}})
    Execution.objects.filter(pk=first.pk).update(labels={f"k{n}": "x" for n in range(20)})
    assert [queries(path) for path in paths] == few
