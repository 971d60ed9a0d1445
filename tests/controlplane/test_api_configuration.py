"""Configuration through the REST API, who may use the API, and how it describes itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from controlplane.models import ClusterConfig, Party
from executions.states import Status
from tests.composed import PSI, api_as, errors_of, make_execution, make_task

pytestmark = pytest.mark.django_db
API = "/api/v1"


# Configuration


def test_it_composes_a_task_from_nothing(api: APIClient) -> None:
    def create(path: str, body: dict[str, Any]) -> Any:
        response = api.post(f"{API}/{path}/", body, format="json")
        assert response.status_code == 201, response.content
        return response.json()

    for index, (name, dataset, key) in enumerate((("alice", "customers", "uid"), ("bob", "clients", "user_id"))):
        ports = {"port_first": 20000 + 100 * index, "port_last": 20099 + 100 * index}
        create("parties", {"name": name, "address": "10.0.0.1", **ports})
        create("datasets", {"party": name, "name": dataset, "columns": {key: "str"}, "key_columns": [key]})
    create("cluster-configs", {"name": "both", "document": {"parties": ["alice", "bob"], "tls_config": {}}})
    create("spu-configs", {"name": "semi2k"})
    create("heu-configs", {"name": "heu", "document": {"he_parameters": {"schema": "ou"}}})
    task = create("tasks", {"name": "psi", "cluster": "both", "spu": "semi2k", "heu": None, "document": PSI})
    assert (task["cluster"], task["spu"], task["heu"], task["priority"]) == ("both", "semi2k", None, 0)
    assert task["created_at"].startswith(str(timezone.now().year))
    assert api.post(f"{API}/executions/", {"task": task["id"]}, format="json").status_code == 201


def test_it_puts_back_what_it_gave(api: APIClient) -> None:
    task = make_task()
    url = f"{API}/tasks/{task.pk}/"
    body = api.get(url).json()
    assert api.put(url, body, format="json").status_code == 200
    assert api.patch(url, {"description": "changed"}, format="json").json()["description"] == "changed"
    task.refresh_from_db()
    assert task.document == PSI


def test_it_says_what_the_model_says_with_the_path(api: APIClient) -> None:
    make_task()
    wrong = {"parties": ["alice", "carol"], "self_party": "alice"}
    response = api.post(f"{API}/cluster-configs/", {"name": "x", "document": wrong}, format="json")
    assert response.status_code == 400
    assert errors_of(response) == {
        "document.self_party": "is filled in at dispatch; leave it out",
        "document.parties.1": "no party 'carol' is registered; register it under Parties first",
    }
    wrong_task = {**PSI, "data_sources": {"alice": "customers", "bob": "client"}}
    response = api.post(
        f"{API}/tasks/",
        {"name": "x", "cluster": "alice-bob", "spu": None, "document": wrong_task},
        format="json",
    )
    assert errors_of(response) == {
        "spu.enable_spu": "task type psi needs this device; set it to true",
        "document.data_sources.bob": "bob has no dataset 'client' registered; did you mean 'clients'?",
    }


def test_it_takes_a_percent_sign_in_a_column_name(api: APIClient) -> None:
    task = make_task()
    document = json.loads(json.dumps(PSI))
    document["algorithm_params"]["psi_params"]["input_keys"]["alice"] = ["50%"]
    response = api.patch(f"{API}/tasks/{task.pk}/", {"document": document}, format="json")
    found = errors_of(response)["document.algorithm_params.psi_params.input_keys.alice.0"]
    assert found.startswith("alice's dataset customers has no column '50%'; ")


def test_it_refuses_an_unknown_key_on_every_write(api: APIClient) -> None:
    make_task()
    for path in ("parties", "datasets", "cluster-configs", "spu-configs", "heu-configs", "tasks"):
        response = api.post(f"{API}/{path}/", {"nam": "x"}, format="json")
        assert response.status_code == 400
        assert errors_of(response)["nam"] == "unknown key; did you mean 'name'?", path
    party = Party.objects.get(name="alice")
    response = api.patch(f"{API}/parties/{party.pk}/", {"adress": "x"}, format="json")
    assert errors_of(response) == {"adress": "unknown key; did you mean 'address'?"}
    for path, key in (("tasks", "task_config"), ("tasks", "keep_devices_seconds"), ("spu-configs", "runtime_config")):
        response = api.post(f"{API}/{path}/", {key: {}}, format="json")
        assert errors_of(response)[key] == "unknown key; belongs into document"


def test_it_refuses_a_second_dataset_of_a_name(api: APIClient, parties: dict[str, Party]) -> None:
    body = {"party": "alice", "name": "customers", "columns": {"a": "int"}}
    response = api.post(f"{API}/datasets/", body, format="json")
    assert errors_of(response) == {"non_field_errors": "Dataset with this Party and Name already exists."}


def test_it_answers_409_to_deleting_what_is_in_use(api: APIClient) -> None:
    task = make_task()
    response = api.delete(f"{API}/cluster-configs/{task.cluster_id}/")
    assert response.status_code == 409
    assert response.json()["errors"][0]["detail"] == ("It is used by task customers-psi: delete or change these first.")
    assert ClusterConfig.objects.filter(pk=task.cluster_id).exists()
    assert api.delete(f"{API}/tasks/{task.pk}/").status_code == 204
    assert api.delete(f"{API}/cluster-configs/{task.cluster_id}/").status_code == 204


def test_it_lists_tasks_in_one_query_however_many(api: APIClient, django_assert_num_queries: Any) -> None:
    for index in range(5):
        make_task(f"task {index}")
    with django_assert_num_queries(1):
        assert len(api.get(f"{API}/tasks/").json()["results"]) == 5


# Who may


def test_it_asks_for_credentials() -> None:
    for path in ("executions/", "parties/", "tasks/1/"):
        response = Client().get(f"{API}/{path}")
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Token"


def test_it_lets_a_viewer_look_and_nothing_else() -> None:
    execution = make_execution()
    viewer = api_as("viewer", "view_execution", "view_task")
    assert viewer.get(f"{API}/executions/{execution.pk}/").status_code == 200
    assert viewer.get(f"{API}/executions/{execution.pk}/events/").status_code == 200
    assert viewer.get(f"{API}/tasks/").status_code == 200
    assert viewer.get(f"{API}/parties/").status_code == 403
    assert viewer.post(f"{API}/executions/", {"task": "customers-psi"}, format="json").status_code == 403
    assert viewer.post(f"{API}/executions/{execution.pk}/cancel/").status_code == 403
    assert viewer.patch(f"{API}/tasks/{execution.task_id}/", {"name": "x"}, format="json").status_code == 403
    assert viewer.delete(f"{API}/tasks/{execution.task_id}/").status_code == 403
    execution.refresh_from_db()
    assert execution.status == Status.QUEUED


def test_it_takes_the_permission_to_change_for_cancelling() -> None:
    execution = make_execution()
    submitter = api_as("submitter", "add_execution", "view_execution")
    assert submitter.post(f"{API}/executions/{execution.pk}/cancel/").status_code == 403
    operator = api_as("operator", "change_execution", "view_execution")
    assert operator.post(f"{API}/executions/{execution.pk}/cancel/").status_code == 202


def test_it_gives_a_token_for_a_password_and_ends_it() -> None:
    User.objects.create_superuser("root", password="a long password")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION="Basic cm9vdDp3cm9uZw==")  # root:wrong
    assert client.post(f"{API}/auth/login/").status_code == 401
    client.credentials(HTTP_AUTHORIZATION="Basic cm9vdDphIGxvbmcgcGFzc3dvcmQ=")  # root:a long password
    token = client.post(f"{API}/auth/login/").json()["token"]
    assert client.get(f"{API}/parties/").status_code == 401  # a password alone opens nothing but the login
    assert client.options(f"{API}/auth/login/").status_code == 405
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    assert client.get(f"{API}/parties/").status_code == 200
    assert client.options(f"{API}/auth/logout/").status_code == 405
    assert client.post(f"{API}/auth/logout/").status_code == 204
    assert client.get(f"{API}/parties/").status_code == 401


@pytest.mark.parametrize("header", [b"Token \xff\xfe", b"Token a\x00b", b"Token nonsense", b"Token", b"Basic AGE6AGI="])
def test_it_refuses_a_bad_authorization_header(header: bytes) -> None:
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=header.decode("latin-1"))
    assert client.get(f"{API}/parties/").status_code == 401
    assert client.post(f"{API}/auth/login/").status_code == 401


def test_it_takes_a_session_and_then_a_csrf_token() -> None:
    user = User.objects.create_superuser("root")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    assert client.get(f"{API}/parties/").status_code == 200
    assert client.post(f"{API}/parties/", "{}", content_type="application/json").status_code == 403


def test_it_prints_a_token_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    User.objects.create_superuser("service")
    call_command("token", "service")
    token = capsys.readouterr().out.strip()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    assert client.get(f"{API}/parties/").status_code == 200


def test_it_prints_no_token_for_an_unknown_or_inactive_user() -> None:
    User.objects.create_user("service")
    User.objects.create_user("former", is_active=False)
    with pytest.raises(CommandError, match="no user 'servce'; did you mean 'service'"):
        call_command("token", "servce")
    with pytest.raises(CommandError, match="not active"):
        call_command("token", "former")
    with pytest.raises(CommandError, match="from 1 to"):
        call_command("token", "service", "--days", "0")


# Its description


def test_it_describes_itself_with_the_documents_own_structure(api: APIClient) -> None:
    response = api.get(f"{API}/schema/", headers={"accept": "application/json"})
    assert response.status_code == 200
    schema = response.json()
    runtime = schema["components"]["schemas"]["SPUConfigDocumentRuntimeConfig"]["properties"]
    assert runtime["fxp_fraction_bits"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 63}
    assert runtime["protocol"]["default"] == "SEMI2K"
    psi = schema["components"]["schemas"]["TaskConfigDocumentPSIParams"]["properties"]
    assert psi["receivers"]["description"] == "Who learns the intersection: one party, or all."
    assert schema["components"]["schemas"]["Task"]["properties"]["document"]["$ref"].endswith("/TaskConfigDocument")
    assert set(schema["paths"][f"{API}/executions/{{id}}/cancel/"]["post"]["responses"]) >= {"202", "409"}
    assert "201" in schema["paths"][f"{API}/executions/"]["post"]["responses"]


def test_its_description_is_made_once(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody may ask for it, and it takes most of a second of a core."""
    first = api.get(f"{API}/schema/")
    monkeypatch.setattr(SchemaGenerator, "get_schema", None)
    again = api.get(f"{API}/schema/")
    assert (again.status_code, again["content-type"]) == (200, "application/vnd.oai.openapi; charset=utf-8")
    assert again.content == first.content


def test_its_documentation_needs_no_outside_host(api: APIClient) -> None:
    page = api.get(f"{API}/docs/").content.decode()
    assert "swagger-ui" in page
    assert "https://" not in page
    assert "http://" not in page.replace("http://testserver", "")


def test_the_console_leads_to_its_documentation(admin: Client) -> None:
    page = admin.get("/admin/").content.decode()
    assert f'href="{API}/docs/"' in page
    assert "API reference" in page
    assert "API 参考" in admin.get("/admin/", HTTP_ACCEPT_LANGUAGE="zh-hans").content.decode()


def test_a_party_keeps_its_name(api: APIClient, parties: dict[str, Party]) -> None:
    alice = parties["alice"]
    response = api.patch(f"{API}/parties/{alice.pk}/", {"name": "zed"}, format="json")
    assert response.status_code == 400
    assert errors_of(response) == {"name": "A party keeps its name; register another party instead."}
    assert api.patch(f"{API}/parties/{alice.pk}/", {"port_last": 20098}, format="json").status_code == 200


def test_it_lists_everything_at_the_root(api: APIClient) -> None:
    listed = api.get(f"{API}/").json()
    assert {"parties", "datasets", "tasks", "executions"} <= set(listed)


@pytest.mark.parametrize("path", ["/api/v1/clusters/", "/api/", "/api/v1/executions/x/y/"])
def test_it_says_in_its_own_form_that_an_address_is_none(api: APIClient, path: str) -> None:
    response = api.get(path)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (404, "not_found")


def test_it_keeps_the_method_where_a_slash_is_missing(api: APIClient) -> None:
    response = api.post(f"{API}/executions", {"task": "x"}, format="json")
    assert (response.status_code, response.headers["Location"]) == (308, f"{API}/executions/")


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"columns": {"": "int"}}, "columns", "Column 1 has no name"),
        ({"columns": {"a\nb": "int"}}, "columns", "cannot be printed"),
        ({"key_columns": ["uid", "uid"]}, "key_columns", "Names a column twice"),
    ],
)
def test_it_refuses_columns_that_no_task_could_name(
    api: APIClient, change: dict[str, Any], path: str, words: str, parties: dict[str, Party]
) -> None:
    body = {"party": "alice", "name": "new", "columns": {"uid": "str"}} | change
    assert words in (errors_of(api.post(f"{API}/datasets/", body, format="json"))[path] or "")
