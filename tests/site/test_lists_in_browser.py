"""The lists in a real browser: rows that stay fresh, actions, saved filters and the search, by mouse and keyboard."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from executions.models import Execution
from executions.states import Status, transition
from tests.browser import needs_chromium
from tests.composed import make_execution, make_task

pytestmark = [pytest.mark.browser, needs_chromium, pytest.mark.django_db(transaction=True)]
EXECUTIONS = "/admin/executions/execution/"
#: Milliseconds within which a change is shown, on a busy machine too.
SOON = 20_000


def row_of(page: Page, execution: Execution) -> Any:
    return page.locator("#result_list .data-row", has_text=str(execution.pk)[:8])


def test_a_list_keeps_itself_fresh_until_all_has_ended(page: Page, connection: Any) -> None:
    make_task()
    first, second = make_execution(name="first"), make_execution(name="second")
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "x-rows-alone" in r.headers else None)
    page.goto(EXECUTIONS)
    expect(row_of(page, first)).to_contain_text("queued")
    row_of(page, first).locator("input.action-select").check()
    expect(page.locator(".action-counter")).to_have_text("1 of 2 selected")
    transition(second, Status.CANCELLED, why="test")
    expect(row_of(page, second)).to_contain_text("cancelled", timeout=SOON)
    expect(row_of(page, first).locator("input.action-select")).to_be_checked()
    # a new one does not push away what was chosen
    third = make_execution(name="third")
    expect(page.locator("[data-total]")).to_have_text("3 executions", timeout=SOON)
    expect(row_of(page, third)).to_have_count(0)
    expect(row_of(page, first).locator("input.action-select")).to_be_checked()
    row_of(page, first).locator("input.action-select").uncheck()
    page.locator("body").click(position={"x": 700, "y": 30})
    page.evaluate("document.activeElement.blur()")
    expect(row_of(page, third)).to_contain_text("queued", timeout=SOON)
    row_of(page, third).locator("input.action-select").check()
    expect(page.locator(".action-counter")).to_have_text("1 of 3 selected")
    for execution in (first, third):
        execution.refresh_from_db()
        transition(execution, Status.CANCELLED, why="test")
    expect(row_of(page, third)).to_contain_text("cancelled", timeout=SOON)
    page.wait_for_timeout(500)
    number = len(asked)
    page.wait_for_timeout(5000)
    assert len(asked) == number


def test_the_chosen_are_cancelled_after_asking(page: Page, connection: Any) -> None:
    first, second = make_execution(), make_execution()
    page.goto(EXECUTIONS)
    row_of(page, first).locator("input.action-select").check()
    page.select_option("select[name=action]", "cancel_executions")
    with page.expect_navigation():
        page.click("button[name=index]")
    expect(page.get_by_text("Stop 1 execution at all parties?")).to_be_visible()
    with page.expect_navigation():
        page.get_by_role("button", name="Stop them").click()
    expect(page.get_by_text("1 is being stopped.")).to_be_visible()
    second.refresh_from_db()
    assert second.status == Status.QUEUED


def test_a_filter_is_saved_and_found_again(page: Page, connection: Any) -> None:
    make_execution(status=Status.FAILURE, error="no such column")
    make_execution(status=Status.SUCCESS)
    page.goto(f"{EXECUTIONS}?status__exact=FAILURE")
    expect(page.locator("[data-total]")).to_have_text("1 execution with these filters")
    page.locator("summary", has_text="Saved filters").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Save the present filters as").fill("what failed")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.get_by_text("Saved as what failed.")).to_be_visible()
    page.goto(EXECUTIONS)
    page.locator("summary", has_text="Saved filters (1)").click()
    with page.expect_navigation():
        page.get_by_role("link", name="what failed").click()
    assert page.url.endswith("?status__exact=FAILURE")
    page.locator("summary", has_text="Saved filters").click()
    with page.expect_navigation():
        page.get_by_role("button", name="Delete the saved filter what failed").click()
    expect(page.locator("summary", has_text="Saved filters")).to_have_text("Saved filters")
    page.get_by_role("button", name="Filters", exact=False).first.focus()
    page.keyboard.press("Enter")
    page.get_by_label("By submitted by").fill("nobody")
    with page.expect_navigation():
        page.get_by_role("button", name="Apply Filters").click()
    expect(page.get_by_text("No executions match the filters.")).to_be_visible()


def test_the_search_finds_a_short_id_by_the_keyboard_alone(page: Page, connection: Any) -> None:
    execution = make_execution()
    page.goto("/admin/")
    page.get_by_role("button", name="Search").focus()
    page.keyboard.press("Enter")
    field = page.get_by_label("Search executions, tasks, datasets and pages")
    expect(field).to_be_focused()
    field.press_sequentially("zzzz")
    expect(page.get_by_text('Nothing is found for "zzzz".')).to_be_visible()
    field.fill("")
    field.press_sequentially(str(execution.pk)[:8])
    expect(page.locator("#command-results-list a")).to_contain_text(str(execution))
    page.keyboard.press("ArrowDown")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert str(execution.pk) in page.url
