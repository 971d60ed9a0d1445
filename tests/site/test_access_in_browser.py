"""What axe-core finds of WCAG 2.2 AA on every page, a way past the sidebar, and pages that fit a narrow window."""

from __future__ import annotations

import json
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from executions.models import ExecutionEvent, PartyRun, StateChange
from tests.browser import needs_chromium
from tests.walked import Circle

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("connection"),
]

#: Rules of these levels, and what is good practice beside them.
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
BINS = [[0.8, 10, 10, 0.9], [0.5, 10, 6, 0.65], [0.2, 20, 3, 0.35], [None, 10, 0, 0.1]]
MODEL = {
    "rows": 50,
    "metrics": {"auc": 0.95, "ks": 0.7},
    "bins": {"columns": ["from", "rows", "positives", "prediction"], "rows": BINS},
    "warnings": ["rows were taken as they are"],
}
#: Pages without a row of a circle.
PLAIN = (
    "", "executions/execution/", "executions/execution/?q=nothing", "executions/pipelinerun/", "executions/approval/",
    "executions/deadletter/", "controlplane/party/", "controlplane/party/add/", "controlplane/task/",
    "controlplane/task/add/", "controlplane/dataset/", "controlplane/dataset/add/", "controlplane/pipeline/",
    "controlplane/schedule/", "controlplane/schedule/add/", "controlplane/clusterconfig/add/",
    "controlplane/spuconfig/add/", "controlplane/heuconfig/add/", "auth/user/", "auth/group/",
    "controlplane/auditentry/", "knox/authtoken/", "knox/authtoken/add/", "password_change/",
    "account/", "account/second-factor/", "notifications/", "notifications/settings/", "auth/user/add/",
    "auth/group/add/", "controlplane/task/types/", "controlplane/pipeline/add/",
)  # fmt: skip
#: Pages of one row.
OF_A_ROW = (
    ("execution", "executions/execution/{}/change/"),
    ("execution", "executions/execution/compare/?id={}"),
    ("execution", "executions/execution/{}/rerun/"),
    ("pipelinerun", "executions/pipelinerun/{}/change/"),
    ("task", "controlplane/task/{}/change/"),
    ("pipeline", "controlplane/pipeline/{}/change/"),
    ("schedule", "controlplane/schedule/{}/change/"),
    ("clusterconfig", "controlplane/clusterconfig/{}/change/"),
    ("alice", "controlplane/party/{}/change/"),
    ("alice", "controlplane/party/{}/pause/"),
    ("alice", "controlplane/party/{}/history/"),
    ("alice", "controlplane/party/{}/delete/"),
)


def paths() -> list[str]:
    """Every page, with something to show on it."""
    circle = Circle.make("alice", "bob", 20000)
    execution = circle.rows["execution"]
    now = timezone.now()
    type(execution).objects.filter(pk=execution.pk).update(
        status="SUCCESS", attempt=1, result=MODEL, task_type="lr", dispatched_at=now, started_at=now, ended_at=now
    )
    StateChange.objects.create(execution=execution, from_status="QUEUED", to_status="SUCCESS", why="all succeeded")
    PartyRun.objects.create(
        execution=execution, party=circle.rows["alice"], attempt=1, job_id="a", status="SUCCESS", released_at=now
    )
    ExecutionEvent.objects.create(
        execution=execution, party="alice", attempt=1, sequence=1, status="RUNNING", stage="sf_init", timestamp=now
    )
    return [*PLAIN, *(pattern.format(circle.rows[name].pk) for name, pattern in OF_A_ROW)]


def violations(page: Page, axe: Axe, only: str = "") -> list[str]:
    chosen = {"type": "rule", "values": [only]} if only else {"type": "tag", "values": WCAG}
    found = axe.run(page, options={"runOnly": chosen}).response["violations"]
    return [f"{entry['id']}: {node['html'][:150]}" for entry in found for node in entry["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_every_page_fits_a_narrow_window(page: Page, scheme: Any) -> None:
    axe = Axe()
    page.emulate_media(color_scheme=scheme)
    wrong: dict[str, list[str]] = {}
    for path in paths():
        page.goto(f"/admin/{path}")
        page.wait_for_load_state("load")
        # In the other scheme only the colours are others
        if found := violations(page, axe, only="" if scheme == "light" else "color-contrast"):
            wrong[path] = found
        if scheme == "light":
            page.set_viewport_size({"width": 400, "height": 800})
            too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if too_wide > 0:
                wrong.setdefault(path, []).append(f"{too_wide} px wider than 400")
            page.set_viewport_size({"width": 1280, "height": 800})
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
