"""What services expect of every address of the API: problem details, parameters, pages, versions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from controlplane.api.errors import MEDIA_TYPE, TITLES, URN
from controlplane.models import Party, SPUConfig
from tests.composed import api_as, errors_of, make_execution, make_task

pytestmark = pytest.mark.django_db
API = "/api/v1"
ROOT = Path(__file__).parents[2]


def problem_of(response: Any) -> tuple[str, int]:
    """The kind and the status of a problem, whose form is right."""
    body = response.json()
    assert response["Content-Type"] == MEDIA_TYPE
    assert set(body) == {"type", "title", "status", "detail", "errors", "request_id"}
    assert body["request_id"] == response["X-Request-ID"]
    assert body["status"] == response.status_code
    kind = body["type"].removeprefix(URN)
    assert body["title"] == TITLES[kind]
    assert all(set(entry) == {"path", "code", "detail"} for entry in body["errors"])
    return kind, response.status_code


# Problems


def test_every_refusal_is_a_problem_of_a_known_kind(api: APIClient, parties: dict[str, Party]) -> None:
    task = make_task()
    anonymous = APIClient()
    cases = [
        (anonymous.get(f"{API}/tasks/"), "not-authenticated", 401),
        (api_as("nobody").get(f"{API}/tasks/"), "forbidden", 403),
        (api.get(f"{API}/tasks/99/"), "not-found", 404),
        (api.get(f"{API}/nothing/"), "not-found", 404),
        (api.delete(f"{API}/tasks/"), "method-not-allowed", 405),
        (api.delete(f"{API}/tasks/?nam=x"), "method-not-allowed", 405),
        (api.get(f"{API}/tasks/", HTTP_ACCEPT="text/csv"), "not-acceptable", 406),
        (api.delete(f"{API}/cluster-configs/{task.cluster_id}/"), "conflict", 409),
        (api.post(f"{API}/tasks/", b"{", content_type="application/json"), "malformed", 400),
        (api.post(f"{API}/tasks/", b"a: 1", content_type="application/yaml"), "unsupported-media-type", 415),
        (api.post(f"{API}/tasks/", {}, format="json"), "invalid", 400),
    ]
    assert [problem_of(response) for response, *_ in cases] == [(kind, status) for _, kind, status in cases]


def test_a_problem_names_all_that_is_wrong(api: APIClient) -> None:
    body = api.post(f"{API}/parties/", {"nam": "x", "port_first": 1}, format="json").json()
    assert len(body["errors"]) > 1
    first = body["errors"][0]
    assert body["detail"].startswith(f"{first['path']}: {first['detail']}")
    assert f"({len(body['errors'])} problems in all: see errors.)" in body["detail"]


def test_the_guide_lists_every_kind() -> None:
    told = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs/services.md").read_text(), re.M)
    assert told == list(TITLES)


# Parameters


@pytest.mark.parametrize(
    ("address", "parameter", "words"),
    [
        ("tasks/?nam=x", "nam", "unknown parameter; did you mean 'name'?"),
        ("executions/?stats=QUEUED", "stats", "unknown parameter; did you mean 'status'?"),
        ("executions/?page_size=0", "page_size", "should be a number from 1 to 500"),
        ("executions/?page_size=501", "page_size", "should be a number from 1 to 500"),
        ("executions/?page_size=many", "page_size", "should be a number from 1 to 500"),
        ("executions/?page_size=%C2%B2", "page_size", "should be a number from 1 to 500"),
        ("executions/?status=DONE", "status", "Select a valid choice."),
        ("executions/?has_warnings=maybe", "has_warnings", "should be true or false"),
        ("schedules/?enabled=2", "enabled", "should be true or false"),
        ("executions/?ordering=name", "ordering", "cannot order by this; "),
        ("tasks/?ordering=nam", "ordering", "cannot order by this; did you mean 'name'?"),
        ("tasks/?fields=name,versin", "fields", "'versin' is no field of this answer; did you mean 'version'?"),
        ("tasks/?fields=", "fields", "'' is no field of this answer"),
        ("task-types/?name=psi", "name", "unknown parameter; this request takes none"),
        ("site/?name=psi", "name", "unknown parameter; this request takes none"),
        ("tasks/?format=api", "format", "unknown parameter"),
    ],
)
def test_it_refuses_what_it_does_not_know(api: APIClient, address: str, parameter: str, words: str) -> None:
    make_task()
    response = api.get(f"{API}/{address}")
    assert response.status_code == 400
    assert words in errors_of(response)[parameter]


def test_writes_and_single_rows_refuse_parameters_as_well(api: APIClient) -> None:
    task = make_task()
    for response in (
        api.get(f"{API}/tasks/{task.pk}/?nam=x"),
        api.patch(f"{API}/tasks/{task.pk}/?nam=x", {}, format="json"),
        api.post(f"{API}/tasks/?nam=x", {}, format="json"),
        api.delete(f"{API}/tasks/{task.pk}/?nam=x"),
    ):
        assert list(errors_of(response)) == ["nam"]


def test_only_what_is_asked_for_is_answered(api: APIClient) -> None:
    task, execution = make_task(), make_execution()
    assert api.get(f"{API}/tasks/?fields=name,version").json()["results"] == [{"name": task.name, "version": 1}]
    assert api.get(f"{API}/tasks/{task.pk}/?fields=name").json() == {"name": task.name}
    found = api.get(f"{API}/executions/{execution.pk}/?fields=id, status").json()
    assert found == {"id": str(execution.pk), "status": "QUEUED"}


def test_lists_of_what_is_registered_tell_how_many_there_are(api: APIClient) -> None:
    for name in "abc":
        SPUConfig.objects.create(name=name)
    address = f"{API}/spu-configs/?page_size=2&fields=name"
    first = api.get(f"{address}&total=true").json()
    assert (first["total"], len(first["results"])) == (3, 2)
    assert api.get(first["next"]).json()["total"] == 3
    assert api.get(f"{API}/spu-configs/?name=b&total=true").json()["total"] == 1
    assert "total" not in api.get(f"{address}&total=false").json()
    assert "should be true or false" in errors_of(api.get(f"{address}&total=yes"))["total"]
    # A count of what was run would go through all of it
    assert "unknown parameter" in errors_of(api.get(f"{API}/executions/?total=true"))["total"]


def test_lists_have_the_order_that_is_asked_for_and_links(api: APIClient) -> None:
    for name in "bca":
        SPUConfig.objects.create(name=name)
    names: list[str] = []
    address = f"{API}/spu-configs/?ordering=name&page_size=2&fields=name"
    first = api.get(address)
    links = dict(re.findall(r'<([^>]+)>; rel="(\w+)"', first["Link"]))
    assert list(links.values()) == ["next"]
    assert next(iter(links)) == first.json()["next"]
    second = api.get(next(iter(links)))
    assert 'rel="prev"' in second["Link"]
    for page in (first, second):
        names += [row["name"] for row in page.json()["results"]]
    assert names == ["a", "b", "c"]
    assert [r["name"] for r in api.get(f"{API}/spu-configs/?ordering=-name").json()["results"]] == ["c", "b", "a"]
    assert "Link" not in api.get(f"{API}/spu-configs/?ordering=id").headers


# Versions


def test_what_is_registered_has_its_version_as_etag(api: APIClient) -> None:
    made = api.post(f"{API}/spu-configs/", {"name": "x"}, format="json")
    assert made["Location"] == f"http://testserver{API}/spu-configs/{made.json()['id']}/"
    read = api.get(made["Location"])
    assert read["ETag"] == made["ETag"]
    assert read["ETag"].startswith('"1-')
    unchanged = api.get(made["Location"], HTTP_IF_NONE_MATCH=read["ETag"])
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    changed = api.patch(made["Location"], {"description": "y"}, format="json", HTTP_IF_MATCH=read["ETag"])
    assert (changed.status_code, changed["ETag"][:3]) == (200, '"2-')
    assert api.get(made["Location"], HTTP_IF_NONE_MATCH=read["ETag"]).status_code == 200


def test_a_write_for_another_version_is_refused(api: APIClient) -> None:
    address = api.post(f"{API}/spu-configs/", {"name": "x"}, format="json")["Location"]
    old = api.get(address)["ETag"]
    api.patch(address, {"description": "of somebody else"}, format="json")
    for response in (
        api.patch(address, {"description": "mine"}, format="json", HTTP_IF_MATCH=old),
        api.put(address, {"name": "mine"}, format="json", HTTP_IF_MATCH='"1"'),
        api.delete(address, HTTP_IF_MATCH='W/"2", "77", nonsense'),
    ):
        assert problem_of(response) == ("stale", 412)
        assert "It has version 2 now" in response.json()["detail"]
    assert SPUConfig.objects.get().description == "of somebody else"
    assert api.patch(address, {"description": "z"}, format="json", HTTP_IF_MATCH='"1", "2"').status_code == 200
    assert api.patch(address, {"description": "y"}, format="json", HTTP_IF_MATCH="*").status_code == 200
    assert api.delete(address, HTTP_IF_MATCH='"4"').status_code == 204


def test_the_site_has_a_version_too(api: APIClient) -> None:
    read = api.get(f"{API}/site/")
    assert api.patch(f"{API}/site/", {"environment": "x"}, format="json", HTTP_IF_MATCH='"9"').status_code == 412
    body = {"environment": "x"}
    assert api.patch(f"{API}/site/", body, format="json", HTTP_IF_MATCH=read["ETag"]).status_code == 200


def test_an_unchanged_list_is_not_sent_again(api: APIClient) -> None:
    make_execution()
    first = api.get(f"{API}/executions/")
    assert api.get(f"{API}/executions/", HTTP_IF_NONE_MATCH=first["ETag"]).status_code == 304
    make_execution()
    assert api.get(f"{API}/executions/", HTTP_IF_NONE_MATCH=first["ETag"]).status_code == 200


def test_who_uses_it_is_part_of_the_etag_and_not_of_the_version(api: APIClient) -> None:
    """Else a service would be told for ever that nothing has changed."""
    spu = SPUConfig.objects.create(name="mine")
    address = f"{API}/spu-configs/{spu.pk}/"
    before = api.get(address)["ETag"]
    task = make_task()
    task.spu = spu
    task.save()
    after = api.get(address, HTTP_IF_NONE_MATCH=before)
    assert (after.status_code, after["ETag"][:3]) == (200, before[:3])
    assert api.patch(address, {"description": "x"}, format="json", HTTP_IF_MATCH=before).status_code == 200
