"""One Chromium for the tests of a module, and a page of the test's own server in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import started_chromium, watched_page
from tests.composed import admin_client, superuser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with started_chromium() as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser, live_server: Any) -> Iterator[Page]:
    """Logged in as a superuser."""
    session = admin_client(superuser()).cookies["sessionid"].value
    with watched_page(chromium, live_server.url) as page:
        page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        yield page
