"""**Change and run** in a real browser: the old documents as forms, changed there or as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from executions.models import Execution
from tests.browser import group, needs_chromium, row
from tests.composed import make_chain, make_execution
from workers.contract.layers import model_of

pytestmark = [pytest.mark.browser, needs_chromium, pytest.mark.django_db(transaction=True)]


def open_form(page: Page, execution: Execution) -> None:
    page.goto(f"/admin/executions/execution/{execution.pk}/rerun/")
    page.wait_for_selector(".rjf-form-wrapper")


def take(page: Page, name: str) -> None:
    if directory := os.environ.get("PICTURES"):
        page.screenshot(path=str(Path(directory) / f"{name}.png"), full_page=True)


def run(page: Page) -> Execution:
    with page.expect_navigation():
        page.get_by_role("button", name="Run", exact=True).click()
    assert page.url.endswith("/change/"), page.locator("[role=alert], .rjf-error-text").all_inner_texts()
    return Execution.objects.latest("created_at")


def changed(old: dict[str, Any], *path: str, value: Any) -> dict[str, Any]:
    new = json.loads(json.dumps(old))
    at = new
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return dict(new)


def test_a_change_in_the_form_is_all_that_changes(page: Page) -> None:
    execution = make_execution(make_chain()["intersect"])
    old = execution.documents
    open_form(page, execution)
    take(page, "rerun")
    row(group(page, "Outputs"), "bob").locator("input").fill("again")
    page.locator("summary", has_text="SPU config").click()
    new = run(page)
    expected = changed(old, "task_config", "outputs", "bob", value="again")
    # what a form fills in are the defaults, which were in force before
    params = expected["task_config"]["algorithm_params"]["psi_params"]
    params |= {"protocol": "PROTOCOL_RR22", "join_type": "inner_join"}
    assert in_force(new.documents) == in_force(expected)
    assert new.task is None


def test_both_views_hold_the_same_document(page: Page) -> None:
    execution = make_execution(make_chain()["intersect"])
    open_form(page, execution)
    page.fill("[name=name]", "changed before")
    row(group(page, "Outputs"), "alice").locator("input").fill("other")
    shown = page.locator("[name=task_config__show]")
    with page.expect_navigation():
        shown.filter(has_text="JSON").click()
    text = page.locator("[name=task_config__text]")
    assert json.loads(text.input_value())["outputs"] == {"alice": "other", "bob": "common"}
    text.fill(
        json.dumps(changed(execution.documents["task_config"], "outputs", value={"alice": "third", "bob": "third"}))
    )
    with page.expect_navigation():
        shown.filter(has_text="Form").click()
    expect(row(group(page, "Outputs"), "alice").locator("input")).to_have_value("third")
    page.wait_for_selector(".rjf-form-wrapper")
    new = run(page)
    assert new.name == "changed before"
    assert new.documents["task_config"]["outputs"] == {"alice": "third", "bob": "third"}


def test_a_mistake_is_shown_at_its_place(page: Page) -> None:
    execution = make_execution(make_chain()["intersect"])
    open_form(page, execution)
    row(group(page, "Outputs"), "alice").locator("input").fill("no name!")
    with page.expect_navigation():
        page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("Nothing was started")).to_be_visible()
    expect(row(group(page, "Outputs"), "alice").locator(".rjf-error-text")).to_contain_text("should")
    take(page, "rerun-wrong")
    assert Execution.objects.count() == 1


def in_force(documents: dict[str, Any]) -> dict[str, Any]:
    """The documents as they are in force."""
    return {layer: model_of(layer).model_validate(document).model_dump() for layer, document in documents.items()}


def test_it_runs_from_its_text_as_it_stands(page: Page) -> None:
    execution = make_execution(make_chain()["intersect"])
    open_form(page, execution)
    shown = page.locator("[name=task_config__show]")
    with page.expect_navigation():
        shown.filter(has_text="JSON").click()
    new = run(page)
    assert new.documents["task_config"]["task_type"] == "psi"


def test_a_key_that_the_form_cannot_show_is_not_lost(page: Page) -> None:
    execution = make_execution(make_chain()["intersect"])
    open_form(page, execution)
    shown = page.locator("[name=task_config__show]")
    with page.expect_navigation():
        shown.filter(has_text="JSON").click()
    text = page.locator("[name=task_config__text]")
    document = json.loads(text.input_value()) | {"keep_device_seconds": 60}
    text.fill(json.dumps(document))
    with page.expect_navigation():
        shown.filter(has_text="Form").click()
    expect(page.get_by_text("The form has no place for keep_device_seconds")).to_be_visible()
    assert json.loads(text.input_value())["keep_device_seconds"] == 60
