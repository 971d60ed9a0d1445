"""A document in the admin as JSON text, beside its form."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from django.test import Client

from controlplane.models import Party, SPUConfig, Task
from tests.composed import PSI, admin_client, make_task, superuser

ADD = "/admin/controlplane/spuconfig/add/"


@pytest.fixture
def client(parties: dict[str, Party]) -> Client:
    client = admin_client(superuser())
    return client


def text_of(page: str) -> str:
    found = re.search(r'<textarea class="document-text"[^>]*>(.*?)</textarea>', page, re.S)
    assert found, "the page shows no text"
    return html.unescape(found[1])


def show(client: Client, url: str, view: str, **posted: Any) -> str:
    """The page after its button for the other view was pressed."""
    response = client.post(url, {"name": "fast", "_rebuild": "1", "document__show": view, **posted})
    assert response.status_code == 200
    assert "Nothing was saved" not in response.content.decode()
    return response.content.decode()


def save(client: Client, text: str) -> Any:
    return client.post(ADD, {"name": "fast", "document__view": "text", "document__text": text})


def test_the_text_is_the_forms_document_without_what_was_left_empty(client: Client) -> None:
    page = client.get(ADD).content.decode()
    assert 'data-show="text"' in page
    document = {"enable_spu": True, "runtime_config": {"field": "FM64", "protocol": "", "fxp_fraction_bits": None}}
    page = show(client, ADD, "text", document=json.dumps(document))
    assert json.loads(text_of(page)) == {"enable_spu": True, "runtime_config": {"field": "FM64"}}
    assert 'name="document__view" value="text"' in page


def test_the_form_shows_what_was_written(client: Client) -> None:
    page = show(client, ADD, "form", document__view="text", document__text='{"runtime_config": {"field": "FM64"}}')
    config = json.loads(html.unescape(re.search(r'data-django-jsonform="(.*?)"', page)[1]))
    assert json.loads(config["data"])["runtime_config"]["field"] == "FM64"


def test_text_that_is_no_json_stays_as_it_was_written(client: Client) -> None:
    text = '{"runtime_config": {"field": "FM64",}}'
    page = show(client, ADD, "form", document__view="text", document__text=text)
    assert text_of(page) == text
    assert "This is no JSON: " in page
    assert "at line 1, column 37" in page
    refused = save(client, text).content.decode()
    assert text_of(refused) == text
    assert refused.count("This is no JSON") == 2, "on top, with a link, and at the field"


def test_it_saves_exactly_what_was_written(client: Client) -> None:
    written = {"runtime_config": {"field": "FM64", "fxp_fraction_bits": None}, "nodes": []}
    assert save(client, json.dumps(written)).status_code == 302
    assert SPUConfig.objects.get(name="fast").document == written


def test_it_says_where_the_text_is_wrong(client: Client) -> None:
    page = save(client, '{"runtime_config": {"feeld": "FM64", "protocol": "SEMI3K"}}').content.decode()
    assert "runtime_config.feeld: unknown key; did you mean &#x27;field&#x27;?" in page
    assert "runtime_config.protocol: is not one of the allowed values" in page
    assert "feeld" in text_of(page)
    assert not SPUConfig.objects.exists()


@pytest.mark.parametrize("text", ["[" * 100_000, '"\\u0000"', "9" * 5000, "[]", "3", "null", '{"a": NaN}'])
def test_no_text_is_an_error_of_the_server(client: Client, text: str) -> None:
    response = save(client, text)
    assert response.status_code in (200, 302)
    show(client, ADD, "form", document__view="text", document__text=text)


def test_a_task_is_written_as_text_too(client: Client) -> None:
    task = make_task()
    url = f"/admin/controlplane/task/{task.pk}/change/"
    fields = {"name": task.name, "cluster": task.cluster_id, "spu": task.spu_id, "task_type": "psi", **task.options()}
    page = show(client, url, "text", **fields, document=json.dumps(PSI))
    written = json.loads(text_of(page)) | {"domain": "marketing"}
    response = client.post(url, fields | {"document__view": "text", "document__text": json.dumps(written)})
    assert response.status_code == 302, response.content.decode()
    assert Task.objects.get().document == PSI | {"domain": "marketing"}
