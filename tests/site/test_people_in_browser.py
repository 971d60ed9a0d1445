"""A user's way in, in a real browser: invited, password set, signed in, second factor set up, signed in with it."""

from __future__ import annotations

import time
from base64 import b32decode
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django_otp.oath import TOTP
from playwright.sync_api import Browser, Page, expect

from controlplane.models import SecondFactor
from controlplane.roles import VIEWER, make_roles
from tests.browser import needs_chromium, watched_page
from tests.composed import admin_client, make_parties, superuser

pytestmark = [pytest.mark.browser, needs_chromium, pytest.mark.django_db(transaction=True)]
PASSWORD = "seven blue lanterns"


@pytest.fixture
def visitor(chromium: Browser, live_server: Any) -> Iterator[Page]:
    with watched_page(chromium, live_server.url) as page:
        yield page


def sign_in(page: Page) -> None:
    page.goto("/admin/login/")
    page.fill("[name=username]", "ann")
    page.fill("[name=password]", PASSWORD)
    with page.expect_navigation():
        page.get_by_role("button", name="Log in").click()


def test_a_user_is_invited_and_signs_in_with_a_second_factor(
    chromium: Browser, visitor: Page, live_server: Any, connection: Any, settings: Any
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    make_roles()  # a test that commits has emptied the tables before
    make_parties()
    session = admin_client(superuser()).cookies["sessionid"].value
    with watched_page(chromium, live_server.url) as root:
        root.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        root.goto("/admin/auth/user/add/")
        root.get_by_label("User name").fill("ann")
        root.get_by_label(VIEWER).check()
        root.get_by_label("alice").check()
        with root.expect_navigation():
            root.get_by_role("button", name="Invite").click()
        link = root.locator("[data-link]").inner_text()
        root.get_by_role("button", name="Copy").click()
        expect(root.locator("[data-copy]")).not_to_have_text("Copy")
    user = User.objects.get(username="ann")
    assert [group.name for group in user.groups.all()] == [VIEWER]

    visitor.goto(link)
    assert "set-password/" in visitor.url
    assert link.rstrip("/").rpartition("/")[2] not in visitor.url, "the address still has the token"
    visitor.get_by_label("Password", exact=False).first.fill(PASSWORD)
    visitor.get_by_label("Password again", exact=False).fill(PASSWORD)
    with visitor.expect_navigation():
        visitor.get_by_role("button", name="Set password").click()
    expect(visitor.get_by_text("Your password is set. Sign in with it.")).to_be_visible()
    sign_in(visitor)
    expect(visitor.locator("#nav-sidebar-apps")).to_contain_text("Executions")

    visitor.get_by_text("ann", exact=True).first.click()
    with visitor.expect_navigation():
        visitor.get_by_role("link", name="Your account").click()
    visitor.get_by_label("Time zone").last.select_option("Europe/Berlin")
    with visitor.expect_navigation():
        visitor.get_by_role("button", name="Save").click()
    expect(visitor.get_by_text("The console uses these settings from now on.")).to_be_visible()

    visitor.get_by_role("link", name="Second factor").click()
    with visitor.expect_navigation():
        visitor.get_by_role("button", name="Set it up").click()
    picture = visitor.get_by_role("img", name="QR code", exact=False)
    assert picture.evaluate("image => image.complete && image.naturalWidth > 100"), "the policy keeps the code away"
    secret = visitor.locator("[data-secret]").inner_text().replace(" ", "")
    visitor.get_by_label("Code").fill(f"{TOTP(b32decode(secret)).token():06}")
    with visitor.expect_navigation():
        visitor.get_by_role("button", name="Turn it on").click()
    expect(visitor.locator("[data-codes]")).to_contain_text("-")
    visitor.context.clear_cookies()

    sign_in(visitor)
    assert visitor.url.endswith("/admin/second-step/?next=%2Fadmin%2F") or visitor.url.endswith("/second-step/")
    # As if half a minute had gone by: a code is taken once
    SecondFactor.objects.update(last_step=int(time.time()) // 30 - 2)
    visitor.get_by_label("Code").fill(f"{TOTP(b32decode(secret)).token():06}")
    with visitor.expect_navigation():
        visitor.get_by_role("button", name="Sign in").click()
    expect(visitor.locator("#nav-sidebar-apps")).to_contain_text("Executions")
