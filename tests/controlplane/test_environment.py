"""Which environment this is and how strict its checks are: stored, shown on every page, delivered to validation."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from rest_framework.test import APIClient

from controlplane.models import Party, Site
from controlplane.models.catalogue import DatabaseCatalogue
from tests.composed import admin_as, api_as, errors_of, make_parties, make_user

pytestmark = pytest.mark.django_db
BANNER = "Do not use confidential data."


def test_it_is_production_until_somebody_says_otherwise(django_assert_num_queries: Any) -> None:
    assert DatabaseCatalogue().security == "production"  # with no party either
    make_parties()
    assert DatabaseCatalogue().security == "production"
    Site.objects.create(environment="dev", security="trial")
    with django_assert_num_queries(1):  # the parties and the tier
        assert DatabaseCatalogue().security == "trial"


def test_there_is_one_of_it() -> None:
    Site.objects.create(environment="dev")
    with pytest.raises(IntegrityError), transaction.atomic():
        Site.objects.create(environment="other")
    with pytest.raises(IntegrityError), transaction.atomic():
        Site.objects.create(id=2, environment="other")


def test_every_page_says_that_it_is_a_trial(admin: Client, parties: dict[str, Party]) -> None:
    pages = ("/admin/", "/admin/controlplane/party/", "/admin/controlplane/party/add/", "/admin/auth/user/")
    for page in pages:
        assert BANNER not in admin.get(page).content.decode()
    Site.objects.create(environment="dev", security="trial")
    for page in pages:
        shown = admin.get(page)
        assert BANNER in shown.content.decode(), page
        assert shown.context["environment"] == ("dev trial", "warning")
    Site.objects.update(environment="prod", security="production")
    shown = admin.get("/admin/")
    assert shown.context["environment"] == ("prod", "info")
    assert BANNER not in shown.content.decode()


def test_it_is_changed_in_the_admin_by_those_who_may(admin: Client) -> None:
    assert admin.get("/admin/controlplane/site/").headers["Location"] == "/admin/controlplane/site/1/change/"
    url = "/admin/controlplane/site/1/change/"
    assert admin.get(url).status_code == 200
    assert admin.post(url, {"environment": "dev", "security": "trial"}).status_code == 302
    assert admin.post(url, {"environment": "dev", "security": "production"}).status_code == 302
    site = Site.objects.get()
    assert (site.environment, site.security, site.version) == ("dev", "production", 2)
    assert [entry.history_user.username for entry in site.history.all()] == ["root", "root"]
    assert "security" in admin.get("/admin/controlplane/site/1/history/").content.decode()
    assert admin.get("/admin/controlplane/site/add/").status_code == 403
    assert admin.post("/admin/controlplane/site/1/delete/", {"post": "yes"}).status_code == 403
    viewer = admin_as("viewer", "view_site")
    assert viewer.get(url).status_code == 200
    assert viewer.post(url, {"environment": "dev", "security": "trial"}).status_code == 403
    assert Site.current().security == "production"
    assert admin.get("/admin/controlplane/site/7/change/").status_code == 404


def test_the_api_tells_it_and_changes_it_for_those_who_may() -> None:
    url = "/api/v1/site/"
    assert APIClient().get(url).status_code == 401
    client = api_as("viewer", "view_site")
    assert client.get(url).json() == {"environment": "", "security": "production", "version": 1}
    assert client.patch(url, {"security": "trial"}, format="json").status_code == 403
    client = api_as("operator", "view_site", "change_site")
    changed = client.patch(url, {"security": "trial", "environment": "dev"}, format="json")
    assert (changed.status_code, changed.json()["security"]) == (200, "trial")
    assert Site.current().history.get().environment == "dev"
    assert client.patch(url, {"security": "production"}, format="json").json()["version"] == 2
    wrong = client.patch(url, {"security": "none", "tier": "x"}, format="json")
    assert wrong.status_code == 400
    assert set(errors_of(wrong)) == {"security", "tier"}
    client.force_authenticate(make_user("stranger"))
    assert client.get(url).status_code == 403
