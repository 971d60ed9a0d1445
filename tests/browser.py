"""A real Chromium on the admin's pages: documents' forms are built by JavaScript, and only there are they seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
#: It needs no sandbox here, and is to do nothing of its own beside.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--in-process-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium: apt-get install chromium")


@contextmanager
def started_chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def watched_page(browser: Browser, url: str) -> Iterator[Page]:
    """A page of the site at ``url``. Script errors, refusals and requests to other hosts fail the test."""
    problems: list[str] = []
    context = browser.new_context(base_url=url, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    # what the policy of the page forbids is told nowhere else
    page.on("console", lambda m: problems.append(m.text) if "Content Security Policy" in m.text else None)
    page.on("request", lambda r: None if r.url.startswith((url, "data:")) else problems.append(r.url))
    page.on("response", lambda r: problems.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    yield page
    context.close()
    assert problems == []


def row(within: Page | Locator, label: str) -> Locator:
    """A field of the document's form by its label."""
    page = within.page if isinstance(within, Locator) else within
    return within.locator(".rjf-form-row", has=page.locator(f'label:text-is("{label}")')).first


def group(within: Page | Locator, title: str) -> Locator:
    """The innermost group with this title."""
    page = within.page if isinstance(within, Locator) else within
    # beginning with it: there are outputs, and further outputs
    heading = page.locator(".rjf-form-group-title", has_text=re.compile(rf"^\s*{title}"))
    return within.locator(".rjf-form-group-inner", has=heading).last


def choose(box: Locator, *names: str) -> None:
    """Tick names in a choice box, in this order."""
    box.locator(".rjf-multiselect-field-input").click()
    for name in names:
        box.locator(".rjf-multiselect-field-option", has_text=name).locator("input").check()
    box.page.mouse.click(2, 2)


def save(page: Page) -> None:
    with page.expect_navigation():
        page.click("button[name=_save]")
