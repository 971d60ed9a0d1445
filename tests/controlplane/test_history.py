"""Every change of what is registered is a version: who made it, when, why, and what differs."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection as database
from django.test import AsyncClient, Client

from controlplane.documents.differences import ABSENT, Change, differences
from controlplane.models import Dataset, Party, SPUConfig, TokenTerms
from tests.composed import admin_as, make_parties, make_task, token_client

pytestmark = pytest.mark.django_db
API = "/api/v1"


def change_spu(admin: Client, spu: SPUConfig, **runtime: Any) -> None:
    document = json.dumps({"runtime_config": runtime} if runtime else spu.document)
    url = f"/admin/controlplane/spuconfig/{spu.pk}/change/"
    response = admin.post(url, {"name": spu.name, "description": "", "document": document})
    assert response.status_code == 302, response.context["adminform"].form.errors
    spu.refresh_from_db()


def record(row: Any) -> list[tuple[int, str, str | None, str | None]]:
    """Version, kind, user and reason, newest first."""
    return [
        (
            entry.version,
            entry.history_type,
            entry.history_user and entry.history_user.username,
            entry.history_change_reason,
        )
        for entry in row.history.select_related("history_user")
    ]


def test_a_change_in_the_admin_is_a_version_with_its_user(admin: Client) -> None:
    spu = SPUConfig.objects.create(name="semi2k", document={"runtime_config": {"field": "FM128"}})
    change_spu(admin, spu, field="FM64", protocol="CHEETAH")
    assert record(spu) == [(2, "~", "root", None), (1, "+", None, None)]
    page = admin.get(f"/admin/controlplane/spuconfig/{spu.pk}/history/").content.decode()
    for words in (
        "document runtime_config.field",
        "FM128 -&gt; FM64",
        "runtime_config.protocol",
        "(none) -&gt; CHEETAH",
    ):
        assert words in page
    assert "Version 2" in admin.get(f"/admin/controlplane/spuconfig/{spu.pk}/change/").content.decode()


def test_a_save_that_changes_nothing_leaves_no_trace(admin: Client) -> None:
    spu = SPUConfig.objects.create(name="semi2k", document={"runtime_config": {"field": "FM64"}})
    before = spu.updated_at
    change_spu(admin, spu)
    spu.save()
    assert (spu.version, len(record(spu)), spu.updated_at) == (1, 1, before)


def test_true_and_one_are_not_the_same_to_a_document() -> None:
    spu = SPUConfig.objects.create(name="x", document={"runtime_config": {"max_concurrency": 1}})
    spu.document = {"runtime_config": {"max_concurrency": True}}
    spu.save()
    assert spu.version == 2


def test_a_change_by_the_api_is_that_of_the_token_s_user() -> None:
    client = token_client(User.objects.create_superuser("service"))
    created = client.post(f"{API}/spu-configs/", {"name": "semi2k"}, format="json").json()
    assert created["version"] == 1
    url = f"{API}/spu-configs/{created['id']}/"
    changed = client.patch(url, {"document": {"runtime_config": {"field": "FM64"}}}, format="json").json()
    assert changed["version"] == 2
    assert client.patch(url, {"version": 7}, format="json").json()["version"] == 2  # read-only, as id is
    spu = SPUConfig.objects.get()
    assert record(spu) == [(2, "~", "service", None), (1, "+", "service", None)]
    assert client.delete(url).status_code == 204
    assert SPUConfig.history.filter(id=spu.pk).first().history_user.username == "service"


@pytest.mark.django_db(transaction=True)
def test_so_it_is_under_an_asynchronous_server() -> None:
    """Many requests in one process at once, as gunicorn's ASGI worker serves them: each change is its own user's."""
    tokens = {
        name: TokenTerms.make_token(User.objects.create_superuser(name), name)[1] for name in ("ann", "ben", "cy")
    }
    spus = {name: SPUConfig.objects.create(name=name) for name in tokens}

    async def change(name: str) -> int:
        response: Any = await AsyncClient().patch(
            f"{API}/spu-configs/{spus[name].pk}/",
            json.dumps({"description": "changed"}),
            content_type="application/json",
            headers={"authorization": f"Token {tokens[name]}"},
        )
        return int(response.status_code)

    async def all_at_once() -> list[int]:
        try:
            return await asyncio.gather(*map(change, tokens))
        finally:
            await sync_to_async(lambda: database.close())()  # the server thread's own

    assert asyncio.run(all_at_once()) == [200, 200, 200]
    assert [record(spus[name])[0][2] for name in tokens] == ["ann", "ben", "cy"]


@pytest.mark.django_db(transaction=True)
def test_two_changes_at_once_are_two_versions() -> None:
    party = make_parties()["alice"]

    def describe(number: int) -> None:
        row = Party.objects.get(pk=party.pk)
        row.description = f"changed {number}"
        try:
            row.save()
        finally:
            database.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(describe, range(6)))
    assert [version for version, *_ in record(party)] == [7, 6, 5, 4, 3, 2, 1]
    party.refresh_from_db()
    assert party.version == 7


def test_where_a_dataset_came_from_is_no_version_of_it(parties: dict[str, Party]) -> None:
    party = parties["alice"]
    task = make_task()
    output = Dataset.objects.create(party=party, name="common", columns={"uid": "str"})
    output.produced_by = "7b0d2a4e-5b43-4f0c-9d1e-111111111111"
    output.save(update_fields=["columns", "produced_by"])
    output.columns = {"uid": "int"}
    output.save(update_fields=["columns"])
    output.refresh_from_db()
    assert (output.version, [v for v, *_ in record(output)]) == (2, [2, 1])
    assert task.version == 1


def test_an_old_version_comes_back_as_a_new_one(admin: Client) -> None:
    spu = make_task().spu
    assert spu is not None
    change_spu(admin, spu, field="FM64")
    first = spu.history.last()
    url = f"/admin/controlplane/spuconfig/{spu.pk}/history/{first.pk}/"
    assert admin.get(url).status_code == 200
    response = admin.post(url, {"name": spu.name, "description": "", "document": "{}"})
    assert response.status_code == 302
    spu.refresh_from_db()
    assert (spu.document, spu.version) == ({}, 3)
    # what is not right now does not come back
    wrong = admin.post(url, {"name": spu.name, "description": "", "document": '{"runtime_config": {"field": "FM1"}}'})
    assert wrong.context["adminform"].form.errors
    assert SPUConfig.objects.get(pk=spu.pk).version == 3


def test_lists_and_histories_take_no_query_per_row(admin: Client, django_assert_num_queries: Any) -> None:
    make_task()
    dataset = Dataset.objects.get(name="customers")
    pages = ("/admin/controlplane/spuconfig/", f"/admin/controlplane/dataset/{dataset.pk}/history/")
    for url in pages:
        admin.get(url)
        with database.execute_wrapper(counted := Counter()):
            admin.get(url)
        for number in range(5):
            SPUConfig.objects.create(name=f"spu {number} for {url}")
            dataset.description = f"changed for {url} {number}"
            dataset.save()
        with django_assert_num_queries(counted.number):
            assert admin.get(url).status_code == 200


class Counter:
    number = 0

    def __call__(self, execute: Any, *arguments: Any) -> Any:
        self.number += 1
        return execute(*arguments)


def test_a_viewer_sees_the_history_and_cannot_bring_anything_back(admin: Client) -> None:
    spu = SPUConfig.objects.create(name="semi2k")
    viewer = admin_as("viewer", "view_spuconfig")
    assert viewer.get(f"/admin/controlplane/spuconfig/{spu.pk}/history/").status_code == 200
    url = f"/admin/controlplane/spuconfig/{spu.pk}/history/{spu.history.get().pk}/"
    assert "Revert" not in viewer.get(url).content.decode()
    assert viewer.post(url, {"name": "other", "document": "{}"}).status_code == 403
    assert SPUConfig.objects.get().name == "semi2k"
    stranger = admin_as("stranger")
    assert stranger.get(f"/admin/controlplane/spuconfig/{spu.pk}/history/").status_code == 403


def test_what_was_deleted_keeps_its_history_and_is_not_made_again(admin: Client) -> None:
    spu = SPUConfig.objects.create(name="semi2k")
    history = f"/admin/controlplane/spuconfig/{spu.pk}/history/"
    version = f"{history}{spu.history.get().pk}/"
    admin.post(f"/admin/controlplane/spuconfig/{spu.pk}/delete/", {"post": "yes"})
    assert not SPUConfig.objects.exists()
    assert "deleted" in admin.get(history).content.decode()
    assert admin.get(version).status_code == 200
    assert admin.post(version, {"name": "again", "document": "{}"}).status_code == 403
    assert not SPUConfig.objects.exists()


@pytest.mark.parametrize(
    "path", ["x/history/", "999/history/", "1/history/x/", "1/history/999/", f"{'9' * 30}/history/"]
)
def test_a_history_that_is_none_is_not_found(admin: Client, path: str) -> None:
    SPUConfig.objects.create(name="semi2k")
    assert admin.get(f"/admin/controlplane/spuconfig/{path}").status_code in (302, 404)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 -> 2"]),
        ({"a": 1}, {}, ["a: 1 -> (none)"]),
        ({}, {"a": None}, ["a: (none) -> (none)"]),
        ({"a": True}, {"a": 1}, ["a: true -> 1"]),
        ({"a": ["x", "y"]}, {"a": ["y", "z"]}, ['a: removed ["x"]; added ["z"]']),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, ['a: ["x", "y"] -> ["y", "x"]']),
        ({"a": {}}, {"a": [1]}, ["a: {} -> [1]"]),
    ],
)
def test_it_says_what_differs(old: Any, new: Any, found: list[str]) -> None:
    assert [str(change) for change in differences(old, new)] == found


def test_a_long_value_is_cut() -> None:
    assert str(Change("a", "x" * 500, ABSENT)) == f"a: {'x' * 117}... -> (none)"
