"""What axe-core finds of WCAG 2.2 AA on every page, a way past the sidebar, and pages that fit a narrow window."""

from __future__ import annotations

import json
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser import needs_chromium
from tests.pages import paths

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("connection"),
]

#: Rules of these levels, and what is good practice beside them.
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Page, axe: Axe, only: str = "") -> list[str]:
    chosen = {"type": "rule", "values": [only]} if only else {"type": "tag", "values": WCAG}
    # What is well is not listed: that takes as long as looking
    found = axe.run(page, options={"runOnly": chosen, "resultTypes": ["violations"]}).response["violations"]
    return [f"{entry['id']}: {node['html'][:150]}" for entry in found for node in entry["nodes"]]


def test_axe_finds_nothing_and_every_page_keeps_to_its_policy_and_fits_a_narrow_window(page: Page) -> None:
    """``page`` sees to what a policy forbids."""
    axe = Axe()
    wrong: dict[str, list[str]] = {}
    for path in paths():
        page.emulate_media(color_scheme="light")
        response = page.goto(f"/admin/{path}")
        assert response, path
        policy = response.headers["content-security-policy"]
        assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0], path
        page.wait_for_load_state("load")
        found = violations(page, axe)
        page.set_viewport_size({"width": 400, "height": 800})
        if (too_wide := page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
            found.append(f"{too_wide} px wider than 400")
        page.set_viewport_size({"width": 1280, "height": 800})
        # Only the colours are others; another test loads pages in the dark
        page.emulate_media(color_scheme="dark")
        page.evaluate("document.documentElement.classList.add('dark')")
        if found := found + violations(page, axe, only="color-contrast"):
            wrong[path] = found
    assert not wrong, json.dumps(wrong, indent=1)


def test_the_sign_in_page_and_that_of_an_error_too(chromium: Browser, live_server: Any) -> None:
    page = chromium.new_page()
    for path in ("/admin/login/", "/nothing/"):
        page.goto(f"{live_server.url}{path}")
        assert violations(page, Axe()) == []
    page.close()


def test_the_keyboard_gets_past_the_sidebar(page: Page) -> None:
    page.goto("/admin/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
