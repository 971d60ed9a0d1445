"""Of two who edit the same row at once, the second is told, and nothing of the first is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from controlplane.models import SPUConfig
from tests.composed import admin_client, make_user, superuser

pytestmark = pytest.mark.django_db
FM128, FM64 = {"runtime_config": {"field": "FM128"}}, {"runtime_config": {"field": "FM64"}}


@pytest.fixture
def spu() -> SPUConfig:
    return SPUConfig.objects.create(name="semi2k", document=FM128)


def opened(client: Client, spu: SPUConfig) -> dict[str, Any]:
    """What the browser has after the page was opened."""
    form = client.get(f"/admin/controlplane/spuconfig/{spu.pk}/change/").context["adminform"].form
    seen = form["seen_version"].initial
    assert seen == SPUConfig.objects.get(pk=spu.pk).version
    return {"name": spu.name, "description": "", "document": json.dumps(spu.document), "seen_version": seen}


def save(client: Client, spu: SPUConfig, values: dict[str, Any]) -> Any:
    return client.post(f"/admin/controlplane/spuconfig/{spu.pk}/change/", values)


def test_the_second_of_two_is_told_who_was_first_and_overwrites_nothing(spu: SPUConfig) -> None:
    root = admin_client(superuser())
    other = admin_client(make_user("other", "change_spuconfig", "view_spuconfig"))
    mine, theirs = opened(root, spu), opened(other, spu)
    assert save(other, spu, theirs | {"description": "theirs"}).status_code == 302
    answer = save(root, spu, mine | {"document": json.dumps(FM64)})
    assert answer.status_code == 200
    text = "other saved version 2 after you had opened version 1. Nothing of yours is saved"
    assert text in answer.content.decode()
    spu.refresh_from_db()
    assert (spu.version, spu.description, spu.document) == (2, "theirs", FM128)
    assert save(root, spu, opened(root, spu) | {"document": json.dumps(FM64)}).status_code == 302
    spu.refresh_from_db()
    assert (spu.version, spu.document) == (3, FM64)


def test_an_old_version_is_brought_back_on_purpose(spu: SPUConfig) -> None:
    root = admin_client(superuser())
    save(root, spu, opened(root, spu) | {"document": json.dumps(FM64)})
    oldest = spu.history.last()
    url = f"/admin/controlplane/spuconfig/{spu.pk}/history/{oldest.history_id}/"
    assert "seen_version" not in root.get(url).content.decode()
    assert root.post(url, {"name": spu.name, "description": "", "document": json.dumps(FM128)}).status_code == 302
    spu.refresh_from_db()
    assert (spu.version, spu.document) == (3, FM128)


def test_who_may_only_look_sees_no_hidden_field(spu: SPUConfig) -> None:
    viewer = admin_client(make_user("viewer", "view_spuconfig"))
    assert "seen_version" not in viewer.get(f"/admin/controlplane/spuconfig/{spu.pk}/change/").content.decode()


def test_the_hidden_field_has_no_label(spu: SPUConfig) -> None:
    page = admin_client(superuser()).get(f"/admin/controlplane/spuconfig/{spu.pk}/change/").content.decode()
    assert 'type="hidden" name="seen_version" value="1"' in page
    assert "Seen version" not in page
