"""What is in use is named before it is edited, a change that breaks a task says so, and nothing in use is deleted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import transaction
from django.db.models import ProtectedError
from django.test import Client
from rest_framework.test import APIClient

from controlplane.models import ClusterConfig, Dataset, HEUConfig, Party, Site, SPUConfig, Task, usage
from tests.composed import PSI, admin_as, make_task

pytestmark = pytest.mark.django_db
API = "/api/v1"


def change(client: Client, row: Any, **fields: Any) -> list[str]:
    """What the page says after saving."""
    data = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in fields.items()}
    url = f"/admin/controlplane/{row._meta.model_name}/{row.pk}/change/"
    response = client.post(url, data, follow=True)
    assert response.redirect_chain, response.context["adminform"].form.errors
    return [str(message) for message in response.context["messages"]][1:]


def page_of(client: Client, row: Any) -> str:
    page = client.get(f"/admin/controlplane/{row._meta.model_name}/{row.pk}/change/").content.decode()
    return " ".join(page[page.index("cp-usage") :].partition("</p>")[0].split())


def test_each_page_names_the_tasks_that_use_it(admin: Client) -> None:
    task = make_task()
    heu = HEUConfig.objects.create(name="heu")
    used: list[Any] = [task.cluster, task.spu, Party.objects.get(name="bob"), Dataset.objects.get(name="clients")]
    for row in used:
        shown = page_of(admin, row)
        assert "used by 1 task:" in shown, row
        assert f'href="/admin/controlplane/task/{task.pk}/change/">customers-psi</a>' in shown
    assert "used by" not in page_of(admin, heu)
    other = Dataset.objects.create(party=used[2], name="other", columns={"x": "int"})
    assert "used by" not in page_of(admin, other)


def test_it_names_twenty_and_counts_the_rest(admin: Client) -> None:
    for number in range(22):
        make_task(f"task {number:02}")
    shown = page_of(admin, SPUConfig.objects.get())
    assert "used by 22 tasks:" in shown
    assert "task 19" in shown
    assert "task 20" not in shown
    assert "and 2 more" in shown


def test_who_may_not_see_tasks_sees_how_many_there_are() -> None:
    spu = make_task().spu
    viewer = admin_as("viewer", "view_spuconfig", "change_spuconfig")
    assert "used by 1 task." in page_of(viewer, spu)
    fields = {"name": "semi2k", "description": "", "document": {"runtime_config": {"protocol": "ABY3"}}}
    assert change(viewer, spu, **fields) == ["1 task uses it; not valid now: 1."]


def test_a_change_says_which_tasks_it_breaks_and_how(admin: Client) -> None:
    task = make_task()
    fields: dict[str, Any] = {"name": "semi2k", "description": ""}
    assert change(admin, task.spu, **fields, document={"runtime_config": {"field": "FM64"}}) == [
        "1 task uses it, and stays valid."
    ]
    said = change(admin, task.spu, **fields, document={"runtime_config": {"protocol": "ABY3"}})
    assert said[0] == "1 task uses it; not valid now: 1."
    assert f'href="/admin/controlplane/task/{task.pk}/change/"' in said[1]
    assert "spu_config.runtime_config.protocol: ABY3 needs exactly 3 parties" in said[1]
    # nothing changed, nothing to say
    assert change(admin, task.spu, **fields, document={"runtime_config": {"protocol": "ABY3"}}) == []


def test_so_does_a_dataset_also_when_it_gets_another_name(admin: Client) -> None:
    make_task()
    dataset = Dataset.objects.get(name="clients")
    rows = [{"name": "id", "type": "int", "key": True}]
    said = change(admin, dataset, party=dataset.party_id, name="clients", description="", columns=rows)
    assert said[0] == "1 task uses it; not valid now: 1."
    assert "input_keys" in said[1]
    said = change(admin, dataset, party=dataset.party_id, name="renamed", description="", columns=rows)
    assert "bob has no dataset &#x27;clients&#x27; registered" in said[1]


def test_so_does_a_party_and_the_tier(admin: Client) -> None:
    make_task()
    alice = Party.objects.get(name="alice")
    fields = {"name": "alice", "description": "", "address": "a.example", "port_first": 2000, "port_last": 2100}
    said = change(admin, alice, **fields)
    assert said[0] == "1 task uses it; not valid now: 1."
    assert "traffic would leave the machine in cleartext: alice is not on the loopback interface" in said[1]
    # the tier's page is there before its row is
    for environment in ("dev", "other"):
        said = change(admin, Site.current(), environment=environment, security="trial")
        assert said == ["1 task uses it, and stays valid."]


def test_it_checks_so_many_tasks_and_says_how_many_not(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MOST_CHECKED", 3)
    monkeypatch.setattr("controlplane.admin.base.MOST_CHECKED", 3)
    for number in range(5):
        make_task(f"task {number}")
    spu = SPUConfig.objects.get()
    said = change(admin, spu, name="semi2k", description="", document={"runtime_config": {"protocol": "ABY3"}})
    assert said[0] == "5 tasks use it; not valid now: 3; 2 more than the 3 that were checked."
    assert len(said) == 4


def test_what_other_tasks_leave_behind_counts_as_there_when_a_task_is_composed(admin: Client) -> None:
    make_task()
    following = json.loads(json.dumps(PSI))
    following |= {"data_sources": {"alice": "common", "bob": "common"}, "outputs": {"alice": "b", "bob": "b"}}
    task = Task(name="next", cluster=ClusterConfig.objects.get(), spu=SPUConfig.objects.get(), document=following)
    task.full_clean()
    task.save()
    form = admin.get(f"/admin/controlplane/task/{task.pk}/change/").context["adminform"].form
    sources = form.fields["document"].widget.schema["properties"]["data_sources"]["properties"]
    assert sources["alice"]["choices"][1:] == ["common", "customers"]
    # its own output is not there before it, and to run it what it names must be there
    own = Task(name="own", cluster=task.cluster, spu=task.spu, document=following | {"data_sources": {"alice": "b"}})
    Task.objects.filter(name="next").update(name="own")
    own.pk = task.pk
    with pytest.raises(Exception, match="alice has no dataset 'b' registered"):
        own.full_clean()
    response = admin.post(f"/admin/controlplane/task/{task.pk}/run/", follow=True)
    assert "alice has no dataset 'common' registered" in str(next(iter(response.context["messages"])))


# Deleting


def test_nothing_that_a_document_names_is_deleted() -> None:
    make_task()
    dataset, party = Dataset.objects.get(name="clients"), Party.objects.get(name="bob")
    with pytest.raises(ProtectedError, match="bob/clients is named by customers-psi"), transaction.atomic():
        dataset.delete()
    with pytest.raises(ProtectedError), transaction.atomic():
        Dataset.objects.all().delete()
    assert Dataset.objects.count() == 2
    Task.objects.all().delete()
    Dataset.objects.all().delete()
    with pytest.raises(ProtectedError, match="bob is named by alice-bob"), transaction.atomic():
        party.delete()
    ClusterConfig.objects.all().delete()
    party.delete()
    assert list(Party.objects.values_list("name", flat=True)) == ["alice"]


def test_another_party_s_dataset_of_the_name_is_free_to_go() -> None:
    make_task()
    Dataset.objects.create(party=Party.objects.get(name="alice"), name="clients", columns={"x": "int"}).delete()
    assert Dataset.objects.filter(name="clients").count() == 1


def test_the_api_names_what_keeps_it(api: APIClient) -> None:
    task = make_task()
    dataset, party = Dataset.objects.get(name="clients"), Party.objects.get(name="bob")

    def refused(path: str) -> str:
        response = api.delete(f"{API}/{path}/")
        assert response.status_code == 409
        return str(response.json()["errors"][0]["detail"])

    assert refused(f"datasets/{dataset.pk}") == "It is used by task customers-psi: delete or change these first."
    assert refused(f"parties/{party.pk}") == (
        "It is used by cluster configuration alice-bob, dataset bob/clients: delete or change these first."
    )
    assert refused(f"spu-configs/{task.spu_id}") == "It is used by task customers-psi: delete or change these first."
    assert Dataset.objects.filter(name="clients").exists()


def test_the_admin_names_what_keeps_it_of_one_and_of_many(admin: Client) -> None:
    make_task()
    dataset, party = Dataset.objects.get(name="clients"), Party.objects.get(name="bob")
    page = admin.get(f"/admin/controlplane/dataset/{dataset.pk}/delete/").content.decode()
    assert "Task customers-psi" in page
    admin.post(f"/admin/controlplane/dataset/{dataset.pk}/delete/", {"post": "yes"})
    ClusterConfig.objects.update(name="Alice-Bob")
    page = admin.get(f"/admin/controlplane/party/{party.pk}/delete/").content.decode()
    assert "Cluster configuration Alice-Bob" in page
    chosen = {"action": "delete_selected", "_selected_action": [d.pk for d in Dataset.objects.all()], "post": "yes"}
    page = admin.post("/admin/controlplane/dataset/", chosen).content.decode()
    assert "Task customers-psi" in page
    assert Dataset.objects.count() == 2


# The API


def test_a_configuration_by_itself_tells_its_users_and_a_list_does_not(
    api: APIClient, django_assert_num_queries: Any
) -> None:
    task = make_task()
    make_task("another")
    for path, pk in (("cluster-configs", task.cluster_id), ("spu-configs", task.spu_id)):
        assert api.get(f"{API}/{path}/{pk}/").json()["used_by"] == ["another", "customers-psi"]
    heu = api.post(f"{API}/heu-configs/", {"name": "heu"}, format="json").json()
    assert (heu["used_by"], heu["version"]) == ([], 1)
    SPUConfig.objects.create(name="second")
    with django_assert_num_queries(1):
        listed = api.get(f"{API}/spu-configs/").json()["results"]
    assert [("used_by" in row, row["version"]) for row in listed] == [(False, 1), (False, 1)]
    # what it gave is taken back
    url = f"{API}/spu-configs/{task.spu_id}/"
    assert api.put(url, api.get(url).json(), format="json").status_code == 200


def test_two_parties_whose_names_look_like_lookups(admin: Client, parties: dict[str, Party]) -> None:
    assert list(usage.tasks_using(Dataset.objects.get(name="clients"))) == []
    odd = Party.objects.create(name="in", address="x.example", port_first=2000, port_last=2100)
    dataset = Dataset.objects.create(party=odd, name="table", columns={"uid": "str"})
    document = json.loads(
        json.dumps(PSI).replace('"bob"', '"in"').replace("clients", "table").replace("user_id", "uid")
    )
    cluster = ClusterConfig.objects.create(name="odd", document={"parties": ["alice", "in"]})
    Task.objects.create(name="odd", cluster=cluster, document=document)
    assert [task.name for task in usage.tasks_using(dataset)] == ["odd"]
    assert [task.name for task in usage.tasks_using(odd)] == ["odd"]
    assert [task.name for task in usage.tasks_using(parties["bob"])] == []
