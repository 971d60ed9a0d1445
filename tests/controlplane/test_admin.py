"""Composing and running in the admin, as an operator does, and as a script that posts anything at all does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from rest_framework.test import APIClient

from controlplane.forms.schema import fitted, pruned
from controlplane.models import ClusterConfig, Dataset, HEUConfig, Party, SPUConfig, Task
from executions.models import Execution
from tests.composed import PSI, admin_as, make_task, messages_of, page_of

pytestmark = pytest.mark.django_db


def add(admin: Client, model: str, **fields: Any) -> Any:
    data = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in fields.items()}
    return admin.post(f"/admin/controlplane/{model}/add/", data)


def task_fields(task: Task, **changed: Any) -> dict[str, Any]:
    """What the browser posts for a task."""
    document = {k: v for k, v in task.document.items() if k != "task_type"}
    fields: dict[str, Any] = {
        "name": task.name,
        "description": "",
        "cluster": task.cluster_id,
        "spu": task.spu_id or "",
        "heu": "",
        "task_type": "psi",
        "document": document,
        "priority": 0,
        "run_limit_seconds": 3600,
        "dispatch_limit_seconds": 600,
        "network_retries": 3,
        "resource_retries": 5,
    } | changed
    return {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in fields.items()}


# Composing


def test_it_composes_and_starts_a_psi_from_an_empty_database(admin: Client) -> None:
    for index, (name, dataset, key) in enumerate((("alice", "customers", "uid"), ("bob", "clients", "user_id"))):
        first = 20000 + 100 * index
        added = add(admin, "party", name=name, address="127.0.0.1", port_first=first, port_last=first + 99)
        assert added.status_code == 302
        party = Party.objects.get(name=name)
        rows = [{"name": key, "type": "str", "key": True}, {"name": "age", "type": "int", "key": False}]
        assert add(admin, "dataset", party=party.pk, name=dataset, columns=rows).status_code == 302
    assert add(admin, "clusterconfig", name="both", document={"parties": ["alice", "bob"]}).status_code == 302
    assert add(admin, "spuconfig", name="semi2k", document={"enable_spu": True}).status_code == 302
    task = Task(name="psi", cluster=ClusterConfig.objects.get(), spu=SPUConfig.objects.get(), document=PSI)
    assert admin.post("/admin/controlplane/task/add/", task_fields(task)).status_code == 302
    response = admin.post(f"/admin/controlplane/task/{Task.objects.get().pk}/run/")
    execution = Execution.objects.get()
    assert response.status_code == 302
    assert response.headers["Location"] == page_of(execution)
    assert execution.documents["task_config"] == PSI
    assert execution.submitted_by is not None
    assert execution.submitted_by.username == "root"


@pytest.mark.parametrize(
    ("alignment", "said"),
    [
        ("", "Unknown. Tasks whose rows must line up refuse it"),
        ("declared:by-uid", "Declared as &#x27;by-uid&#x27; in party.toml"),
        (
            "0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e-2/test",
            '<a href="/admin/executions/execution/0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e/change/" class="text-link">'
            "execution 0b5e0b5e</a>",
        ),
        ("<script>", "execution &lt;script&gt;</a>"),
    ],
)
def test_a_dataset_says_what_put_its_rows_in_order(
    admin: Client, api: APIClient, parties: dict[str, Party], alignment: str, said: str
) -> None:
    dataset = Dataset.objects.get(name="customers")
    Dataset.objects.filter(pk=dataset.pk).update(alignment=alignment)
    assert said in admin.get(f"/admin/controlplane/dataset/{dataset.pk}/change/").content.decode()
    assert api.get(f"/api/v1/datasets/{dataset.pk}/").json()["alignment"] == alignment


def test_it_keeps_columns_and_keys_of_a_dataset_as_rows(admin: Client, parties: dict[str, Party]) -> None:
    dataset = Dataset.objects.get(name="customers")
    url = f"/admin/controlplane/dataset/{dataset.pk}/change/"
    shown = admin.get(url).context["adminform"].form.initial["columns"]
    assert {"name": "uid", "type": "str", "key": True} in shown  # PostgreSQL keeps no order of keys
    rows = [{"name": "id", "type": "int", "key": True}, {"name": "x", "type": "float", "key": False}]
    data = {"party": dataset.party_id, "name": "customers", "description": ""}
    assert admin.post(url, data | {"columns": json.dumps(rows)}).status_code == 302
    dataset.refresh_from_db()
    assert (dataset.columns, dataset.key_columns) == ({"id": "int", "x": "float"}, ["id"])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "Give at least one column"),
        ([{"name": "a", "type": "int"}, {"name": "a", "type": "str"}], "a: named twice"),
        ([{"name": "a", "type": "date"}], "the type should be one of int, float, str, bool"),
        ([{"name": "a", "type": ["x"]}], "the type should be one of"),
        ([{"name": 5, "type": "int"}], "Give at least one column"),
        ({"a": "int"}, "Give a list of columns"),
        ("x", "Give a list of columns"),
        ([None, 1], "Give a list of columns"),
    ],
)
def test_it_refuses_wrong_columns(admin: Client, rows: Any, words: str, parties: dict[str, Party]) -> None:
    party = Party.objects.get(name="alice")
    response = add(admin, "dataset", party=party.pk, name="new", columns=json.dumps(rows))
    assert response.status_code == 200
    assert words in str(response.context["adminform"].form.errors["columns"])
    assert not Dataset.objects.filter(name="new").exists()


def test_it_leaves_out_what_was_left_empty(admin: Client, parties: dict[str, Party]) -> None:
    """As the browser sends it: every key of the schema, empty ones as null, "", [] and {}."""
    document = {
        "enable_heu": True,
        "sk_keeper": "",
        "evaluators": [],
        "he_parameters": {"schema": "ou", "key_pair": {"generate": {"bit_size": None}}},
        "encoding": {"cleartext_type": "", "encoder": "", "encoder_args": {"scale": None}},
    }
    assert add(admin, "heuconfig", name="heu", document=document).status_code == 302
    assert HEUConfig.objects.get().document == {"enable_heu": True, "he_parameters": {"schema": "ou"}}
    options = {"timeout_in_ms": None, "brpc_channel_protocol": "", "recv_timeout_ms": 5000}
    document = {"parties": ["bob", "alice"], "cross_silo_comm_options": options}
    assert add(admin, "clusterconfig", name="c", document=document).status_code == 302
    assert ClusterConfig.objects.get().document == {
        "parties": ["bob", "alice"],
        "cross_silo_comm_options": {"recv_timeout_ms": 5000},
    }


def test_it_takes_a_three_way_choice_for_an_optional_switch(admin: Client) -> None:
    runtime = {"trunc_allow_msb_error": "true", "enable_lower_accuracy_rsqrt": ""}
    assert add(admin, "spuconfig", name="s", document={"runtime_config": runtime}).status_code == 302
    config = SPUConfig.objects.get()
    assert config.document == {"runtime_config": {"trunc_allow_msb_error": True}}
    page = admin.get(f"/admin/controlplane/spuconfig/{config.pk}/change/").content.decode()
    assert (
        "trunc_allow_msb_error&quot;: \\&quot;true\\&quot;" in page
        or "trunc_allow_msb_error\\&quot;: \\&quot;true" in page
    )


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"enabled": "true"}, {"tls_config": {"enabled": True}}),
        ({"enabled": "false"}, {"tls_config": {"enabled": False}}),
        ({"enabled": ""}, {}),
    ],
)
def test_it_asks_for_tls_between_the_parties(
    admin: Client, sent: dict[str, str], stored: dict[str, dict[str, bool]], parties: dict[str, Party]
) -> None:
    document = {"parties": ["alice", "bob"], "tls_config": sent}
    assert add(admin, "clusterconfig", name="c", document=document).status_code == 302
    assert ClusterConfig.objects.get().document == {"parties": ["alice", "bob"]} | stored


def test_it_shows_the_tls_that_a_document_asks_for_by_saying_nothing_else(
    admin: Client, parties: dict[str, Party]
) -> None:
    """``{}`` asks for TLS; shown as empty it would be saved as cleartext."""
    document = {"parties": ["alice", "bob"], "tls_config": {}}
    config = ClusterConfig.objects.create(name="c", document=document)
    page = admin.get(f"/admin/controlplane/clusterconfig/{config.pk}/change/")
    field = page.context["adminform"].form.fields["document"]
    shown = fitted(document, field.widget.schema)
    assert shown["tls_config"] == {"enabled": "true"}
    assert pruned(shown, field.widget.schema)["tls_config"] == {"enabled": True}
    assert "tls_config" not in fitted({"parties": ["alice"]}, field.widget.schema)


def test_it_offers_the_registered_parties_and_hides_what_is_filled_in_at_dispatch(
    admin: Client, parties: dict[str, Party]
) -> None:
    form = admin.get("/admin/controlplane/clusterconfig/add/").context["adminform"].form
    properties = form.fields["document"].widget.schema["properties"]
    options = {"cross_silo_comm_backend", "cross_silo_comm_options", "tls_config", "logging_level"}
    assert set(properties) == {"parties"} | options
    assert properties["parties"]["items"]["choices"] == ["alice", "bob"]
    form = admin.get("/admin/controlplane/spuconfig/add/").context["adminform"].form
    assert set(form.fields["document"].widget.schema["properties"]) == {"enable_spu", "runtime_config", "link_desc"}


def test_it_makes_the_task_form_for_the_type_and_the_cluster(admin: Client) -> None:
    task = make_task()
    Party.objects.create(name="carol", address="c.example", port_first=2000, port_last=2100)

    def shown(response: Any) -> Any:
        return response.context["adminform"].form.fields["document"].widget.schema["properties"]

    properties = shown(admin.get(f"/admin/controlplane/task/{task.pk}/change/"))
    assert list(properties["data_sources"]["properties"]) == ["alice", "bob"]
    assert properties["data_sources"]["properties"]["alice"]["choices"][1:] == ["customers"]
    keys = properties["algorithm_params"]["properties"]["psi_params"]["properties"]["input_keys"]["properties"]
    assert sorted(keys["bob"]["items"]["choices"]) == ["age", "income", "user_id"]
    # what choosing another task type posts
    response = admin.post(
        f"/admin/controlplane/task/{task.pk}/change/", task_fields(task, task_type="lr", name="", _rebuild="1")
    )
    assert response.status_code == 200
    assert list(shown(response)["algorithm_params"]["properties"]) == ["ml_params"]
    assert response.context["errors"] is None
    assert not response.context["adminform"].form.errors.get("name")
    task.refresh_from_db()
    assert task.document == PSI


def test_it_makes_the_form_of_a_component_and_keeps_its_name(admin: Client) -> None:
    task = make_task()
    url, chosen = f"/admin/controlplane/task/{task.pk}/change/", "component:ml.predict/ss_sgd_predict"
    response = admin.post(url, task_fields(task, task_type=chosen, _rebuild="1"))
    properties = response.context["adminform"].form.fields["document"].widget.schema["properties"]
    params = properties["algorithm_params"]["properties"]["component_params"]["properties"]
    assert list(params) == ["columns", "attributes"]
    assert params["attributes"]["properties"]["receiver"]["choices"] == ["alice", "bob"]
    assert list(params["columns"]["properties"]["input_ds"]["properties"]["features"]["properties"]) == ["alice", "bob"]
    assert list(properties["further_sources"]["properties"]) == ["input_model", "input_ds"]
    columns = {"input_ds": {"features": {"alice": ["age"], "bob": ["income"]}}}
    document = {
        "data_sources": {"alice": "customers", "bob": "clients"},
        "algorithm_params": {"component_params": {"columns": columns}},
    }
    fields = task_fields(task, task_type="component:stats/table_statistics", document=document)
    assert admin.post(url, fields).status_code == 302
    task.refresh_from_db()
    assert task.document["task_type"] == "component"
    found = task.document["algorithm_params"]["component_params"]
    assert found["component"] == "stats/table_statistics"
    form = admin.get(url).context["adminform"].form
    assert form["task_type"].value() == "component:stats/table_statistics"


def test_it_puts_the_problems_of_a_task_on_their_fields_with_path_and_remedy(admin: Client) -> None:
    task = make_task()
    document = json.loads(json.dumps(PSI))
    document["data_sources"]["bob"] = "client"
    url = f"/admin/controlplane/task/{task.pk}/change/"
    response = admin.post(url, task_fields(task, document=document, spu=""))
    assert response.status_code == 200
    form = response.context["adminform"].form
    errors = form.errors.get_json_data()
    assert [e["message"] for e in errors["spu"]] == ["enable_spu: task type psi needs this device; set it to true"]
    assert "data_sources.bob: bob has no dataset 'client' registered; did you mean 'clients'?" in [
        e["message"] for e in errors["document"]
    ]
    assert form.fields["document"].widget.error_map["data_sources§bob"] == [
        "bob has no dataset 'client' registered; did you mean 'clients'?"
    ]
    document["algorithm_params"]["psi_params"]["receivers"] = []
    response = admin.post(url, task_fields(task, document=document))
    errors = response.context["adminform"].form.errors.get_json_data()
    assert any(e["message"].startswith("algorithm_params.psi_params.receivers: ") for e in errors["document"])


HOSTILE: list[str] = [
    "",
    "{",
    "null",
    "true",
    "5",
    '"x"',
    "[]",
    "[[]]",
    "NaN",
    "1e999",
    "9" * 5000,
    "[" * 100_000,
    '{"a":' * 5000,
    '{"parties": "alice"}',
    '{"parties": [1, null, {}, []]}',
    '{"parties": ["a\\u0000b"]}',
    '{"\\u0000": 1}',
    '{"parties": ["\\ud800"]}',
    '{"50%": "%s %(path)s"}',
    '{"data_sources": [], "algorithm_params": 5, "outputs": null}',
    '{"data_sources": {"alice": {"x": 1}}, "algorithm_params": {"psi_params": {"input_keys": {"alice": "uid"}}}}',
    '{"data_sources": {"alice": "customers"}, "algorithm_params": {"psi_params": {"input_keys": {"alice": ["50%"]}}}}',
    '{"runtime_config": [], "he_parameters": 1, "enable_spu": "maybe"}',
    '{"cross_silo_comm_options": {"timeout_in_ms": 1e300}}',
    '{"cross_silo_comm_options": {"timeout_in_ms": ' + "9" * 400 + "}}",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("model", ["clusterconfig", "task", "dataset"])  # devices have the form of clusters
def test_it_never_fails_whatever_is_posted(admin: Client, model: str, text: str) -> None:
    task = make_task()
    fields = {
        "task": task_fields(task, name="new", document=text),
        "dataset": {"party": Party.objects.get(name="alice").pk, "name": "new", "columns": text},
    }.get(model, {"name": "new", "document": text})
    response = admin.post(f"/admin/controlplane/{model}/add/", fields)
    assert response.status_code in (200, 302), response.content[:500]
    if response.status_code == 200:
        assert response.context["adminform"].form.errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"link_desc": {"brpc_channel_protocol": "a\\u0000b"}}',
            "link_desc.brpc_channel_protocol: holds a NUL character",
        ),
        ('{"link_desc": {"brpc_channel_protocol": "\\ud800"}}', "holds half a surrogate pair"),
        ('{"link_desc": {"http_timeout_ms": 1e999}}', "link_desc.http_timeout_ms: is not a finite number"),
        ('{"a":' * 40 + "1" + "}" * 40, "is nested too deeply"),
    ],
)
def test_it_refuses_what_not_every_database_can_store(admin: Client, text: str, words: str) -> None:
    response = admin.post("/admin/controlplane/spuconfig/add/", {"name": "new", "document": text})
    assert words in str(response.context["adminform"].form.errors["document"])


@pytest.mark.parametrize("field", ["cluster", "spu", "task_type", "priority", "run_limit_seconds", "name"])
@pytest.mark.parametrize("value", ["", "x", "-1", "9" * 30, "a\x00b"])
def test_it_never_fails_on_a_simple_field(admin: Client, field: str, value: str) -> None:
    task = make_task()
    for extra in ({}, {"_rebuild": "1"}):
        fields = task_fields(task, **{field: value}, **extra)
        assert admin.post(f"/admin/controlplane/task/{task.pk}/change/", fields).status_code in (200, 302)


def test_it_shows_what_keeps_a_party_from_being_deleted(admin: Client) -> None:
    make_task()
    party = Party.objects.get(name="alice")
    response = admin.post(f"/admin/controlplane/party/{party.pk}/delete/", {"post": "yes"})
    assert response.status_code in (200, 403)
    assert Party.objects.filter(name="alice").exists()
    page = admin.get(f"/admin/controlplane/party/{party.pk}/delete/").content.decode()
    assert "alice/customers" in page


# Running


def test_a_get_starts_nothing_and_a_post_without_the_token_neither() -> None:
    task = make_task()
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    url = f"/admin/controlplane/task/{task.pk}/run/"
    page = client.get(url)
    assert page.status_code == 200
    assert "Run customers-psi now?" in page.content.decode()
    assert client.post(url).status_code == 403
    assert not Execution.objects.exists()
    token = page.context["csrf_token"]
    assert client.post(url, {"csrfmiddlewaretoken": str(token)}).status_code == 302
    assert Execution.objects.count() == 1


def test_it_shows_the_problems_of_a_task_that_cannot_run_now(admin: Client) -> None:
    task = make_task()
    Dataset.objects.filter(name="clients").update(name="other")
    response = admin.post(f"/admin/controlplane/task/{task.pk}/run/", follow=True)
    assert messages_of(response) == [
        "task_config.data_sources.bob: bob has no dataset 'clients' registered; known: other",
    ]
    assert not Execution.objects.exists()


def test_it_saves_and_runs_in_one_go(admin: Client) -> None:
    task = make_task()
    fields = task_fields(task, description="changed", controlplane_task_save_and_run="1")
    response = admin.post(f"/admin/controlplane/task/{task.pk}/change/", fields)
    assert response.headers["Location"] == page_of(Execution.objects.get())
    task.refresh_from_db()
    assert task.description == "changed"


def test_it_saves_and_runs_a_new_task_in_one_go(admin: Client) -> None:
    task = make_task()
    add = "/admin/controlplane/task/add/"
    assert "Save and run" in admin.get(add).content.decode()
    fields = task_fields(task, name="a new one", controlplane_task_save_and_run="1")
    response = admin.post(add, fields)
    execution = Execution.objects.get()
    assert execution.task == Task.objects.get(name="a new one")
    assert response.headers["Location"] == page_of(execution)
    adder = admin_as("adder", "view_task", "add_task")
    assert "Save and run" not in adder.get(add).content.decode()


def test_running_takes_the_permission_to_add_executions() -> None:
    task = make_task()
    url = f"/admin/controlplane/task/{task.pk}"
    editor = admin_as("editor", "view_task", "change_task")
    assert "Run now" not in editor.get(f"{url}/change/").content.decode()
    assert editor.post(f"{url}/run/").status_code == 403
    fields = task_fields(task, controlplane_task_save_and_run="1")
    editor.post(f"{url}/change/", fields)
    assert not Execution.objects.exists()
    runner = admin_as("runner", "view_task", "add_execution", "view_execution")
    assert "Run now" in runner.get(f"{url}/change/").content.decode()
    assert runner.post(f"{url}/run/").status_code == 302
    assert Execution.objects.count() == 1


def test_it_says_that_the_database_is_busy(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise OperationalError("database is locked")

    admin.raise_request_exception = False
    monkeypatch.setattr(Party, "full_clean", locked)
    page = admin.post("/admin/controlplane/party/add/", {"name": "carol"})
    assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
    assert "Nothing was changed." in page.content.decode()
