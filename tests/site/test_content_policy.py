"""Every kind of page in a real browser, light or dark: nothing that it needs is forbidden by its own policy."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, expect

from tests.browser import needs_chromium, watched_page
from tests.composed import admin_client, superuser
from tests.walked import Circle

pytestmark = [pytest.mark.browser, needs_chromium, pytest.mark.django_db(transaction=True)]


def pages(circle: Circle) -> list[str]:
    rows = circle.rows
    registered = ("party", "dataset", "clusterconfig", "spuconfig", "heuconfig", "task", "pipeline", "schedule")
    found = ["/admin/", "/admin/password_change/", "/admin/account/", "/admin/account/second-factor/"]
    found += ["/admin/notifications/", "/admin/notifications/settings/"]
    found += ["/admin/controlplane/task/types/", "/admin/knox/authtoken/add/"]
    for name in registered:
        # Versions and deletions of all kinds have the same templates
        shown = ("change", "history", "delete") if name in ("party", "task") else ("change",)
        base = f"/admin/controlplane/{name}/"
        found += [base, f"{base}add/", *(f"{base}{rows[name].pk}/{page}/" for page in shown)]
    found += [
        f"/admin/controlplane/task/{rows['task'].pk}/dry-run/",
        f"/admin/controlplane/task/{rows['task'].pk}/run/",
    ]
    for name in ("execution", "pipelinerun", "deadletter"):
        found += [f"/admin/executions/{name}/", f"/admin/executions/{name}/{rows[name].pk}/change/"]
    found += [f"/admin/executions/execution/{rows['execution'].pk}/rerun/", "/admin/knox/authtoken/"]
    root = User.objects.get(username="root").pk
    found += ["/admin/auth/user/", "/admin/auth/user/add/", f"/admin/auth/user/{root}/change/", "/admin/auth/group/"]
    return [*found, "/admin/auth/group/add/"]


def test_no_page_of_the_admin_breaks_its_policy(chromium: Browser, live_server: Any, connection: Any) -> None:
    session = admin_client(superuser()).cookies["sessionid"].value
    circle = Circle.make("alice", "bob", 20000)
    with watched_page(chromium, live_server.url) as page:
        page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        for path, scheme in zip(pages(circle), cycle(("light", "dark"))):  # it loads the same for both
            page.emulate_media(color_scheme=scheme)
            response = page.goto(path)
            assert response, path
            assert response.status == 200, path
            policy = response.headers["content-security-policy"]
            assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
            expect(page.locator("html.dark")).to_have_count(1 if scheme == "dark" else 0)  # Alpine has set it


def test_an_inline_script_does_not_run(chromium: Browser, live_server: Any, db: None) -> None:
    """What the policy is for: a name that got past the templates' escaping would do nothing."""
    page = chromium.new_page()  # not a watched one: it is to be forbidden
    page.goto(f"{live_server.url}/admin/login/")
    page.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = 'window.ran = true';"
        " document.body.append(script); }"
    )
    assert page.evaluate("() => Boolean(window.ran)") is False
    page.close()


def test_the_login_and_the_reference_of_the_api_keep_to_theirs(chromium: Browser, live_server: Any, db: None) -> None:
    with watched_page(chromium, live_server.url) as page:
        page.goto("/admin/login/")
        expect(page.locator("[name=username]")).to_be_visible()
        page.goto("/api/v1/docs/")
        # the schema takes some seconds to make
        expect(page.locator(".opblock-summary").first).to_be_visible(timeout=60_000)
        for scheme, colour in (("dark", "rgb(28, 32, 34)"), ("light", "rgb(250, 250, 250)")):
            page.emulate_media(color_scheme=scheme)
            expect(page.locator("body")).to_have_css("background-color", colour)
        page.locator(".opblock-summary").first.click()
        expect(page.locator(".opblock-body").first).to_be_visible()
