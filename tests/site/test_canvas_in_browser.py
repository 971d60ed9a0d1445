"""A pipeline composed on the canvas of its form: dragging, connecting, taking away; the rows are what is saved."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Locator, Page, expect

from controlplane.models import Pipeline
from tests.browser import needs_chromium, save
from tests.composed import make_chain, make_pipeline

pytestmark = [pytest.mark.browser, needs_chromium, pytest.mark.django_db(transaction=True)]


def take(page: Page, name: str) -> None:
    if directory := os.environ.get("PICTURES"):
        page.screenshot(path=str(Path(directory) / f"{name}.png"), full_page=True)


def node(page: Page, name: str) -> Locator:
    return page.locator(f'.x6-node[data-cell-id="node {name}"]')


def lines(page: Page) -> Locator:
    return page.locator(".cp-compose-line:not([style*=none])")


def rows(page: Page) -> Any:
    return json.loads(page.locator("[name=nodes]").input_value())


def drag(page: Page, start: Locator, end: Locator) -> None:
    """As by hand, in many small moves."""
    (x, y), (to_x, to_y) = (middle(found) for found in (start, end))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(to_x, to_y, steps=10)
    page.mouse.up()


def middle(found: Locator) -> tuple[float, float]:
    box: Any = found.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.fixture
def canvas(page: Page) -> Page:
    make_chain()
    page.goto(reverse("admin:controlplane_pipeline_add"))
    page.wait_for_selector(".cp-compose-canvas svg")
    return page


def test_from_nothing_to_a_saved_pipeline(canvas: Page) -> None:
    canvas.get_by_role("button", name="intersect", exact=True).drag_to(
        canvas.locator(".cp-compose-canvas"), target_position={"x": 120, "y": 60}
    )
    expect(node(canvas, "intersect")).to_be_visible()
    canvas.get_by_role("button", name="train", exact=True).click()
    expect(node(canvas, "train")).to_be_visible()
    expect(canvas.locator(".x6-edge")).to_have_count(1)  # it reads what the first keeps
    canvas.get_by_role("button", name="more", exact=True).click()
    expect(canvas.locator(".x6-edge")).to_have_count(2)

    take(canvas, "compose-before")
    drag(canvas, node(canvas, "train").locator(".cp-compose-out"), node(canvas, "more").locator(".cp-compose-in"))
    expect(canvas.get_by_label("Also after").last).to_have_value("train")
    assert rows(canvas) == [
        {"name": "intersect", "task": "intersect", "after": ""},
        {"name": "train", "task": "train", "after": ""},
        {"name": "more", "task": "more", "after": "train"},
    ]
    expect(canvas.locator(".x6-edge")).to_have_count(3)
    take(canvas, "compose")
    canvas.evaluate("document.documentElement.classList.add('dark')")
    take(canvas, "compose-dark")
    canvas.fill("[name=name]", "composed")
    save(canvas)
    assert Pipeline.objects.get(name="composed").nodes == {
        "intersect": {"task": "intersect"},
        "train": {"task": "train"},
        "more": {"task": "more", "after": ["train"]},
    }


def test_rows_and_drawing_are_one(page: Page) -> None:
    make_chain()
    pipeline = make_pipeline(first="intersect", then="train", last={"task": "more", "after": ["then"]})
    page.goto(reverse("admin:controlplane_pipeline_change", args=[pipeline.pk]))
    expect(page.locator(".x6-node")).to_have_count(3)
    page.locator('.rjf-form-row input[aria-label=Node][value="then"]').fill("second")
    expect(node(page, "second")).to_be_visible()
    expect(page.locator('[aria-label="Also after"][value="second"]')).to_have_count(1)  # it follows
    page.locator('.rjf-form-row input[aria-label=Node][value="last"]').fill("first")
    expect(page.get_by_text("first: named twice")).to_be_visible()
    page.locator(".rjf-form-row input[aria-label=Node]").last.fill("constructor")
    expect(node(page, "constructor")).to_be_visible()
    page.locator('[aria-label="Also after"]').last.fill("nothing")
    expect(page.get_by_text("constructor.after.0: there is no node of this name")).to_be_visible()
    expect(page.locator(".cp-compose-wrong")).to_have_count(1)
    take(page, "compose-wrong")
    node(page, "second").hover()
    page.locator('[data-cell-id="node second"] [data-tool-name="button-remove"]').click()
    expect(page.locator(".x6-node")).to_have_count(2)
    assert [row["name"] for row in rows(page)] == ["first", "constructor"]
