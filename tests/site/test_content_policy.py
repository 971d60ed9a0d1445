"""Scripts that a page's policy is to forbid, and the pages beside the console; of the console's own pages
test_access_in_browser sees that nothing which they need is forbidden."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import needs_chromium, watched_page

pytestmark = [pytest.mark.browser, needs_chromium, pytest.mark.django_db(transaction=True)]


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
