"""The admin's pages in a real browser: the forms are built by JavaScript, and a running execution refreshes itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from controlplane.models import ClusterConfig, Dataset, Party, SPUConfig, Task
from executions.models import Execution, PartyRun, StateChange
from executions.states import Status, transition
from tests.composed import PSI, make_parties, make_task

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium: apt-get install chromium"),
    # each test commits, for the server is another thread
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def problems() -> list[str]:
    return []


@pytest.fixture
def page(chromium: Browser, live_server: Any, problems: list[str]) -> Iterator[Page]:
    """A page logged in as a superuser. Script errors and requests to other hosts fail the test."""
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    context = chromium.new_context(base_url=live_server.url)
    session = client.cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith((live_server.url, "data:")) else problems.append(r.url))
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
    heading = page.locator(f'.rjf-form-group-title:has-text("{title}")')
    return within.locator(".rjf-form-group-inner", has=heading).last


def choose(box: Locator, *names: str) -> None:
    """Tick names in a choice box, in this order."""
    box.locator(".rjf-multiselect-field-input").click()
    for name in names:
        box.locator(".rjf-multiselect-field-option", has_text=name).locator("input").check()
    box.page.mouse.click(2, 2)


#: A text's contrast, and how light its ground is.
RATIO = """element => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data; };
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
    canvas.fillStyle = "#fff"; let ground = [255, 255, 255];
    for (const layer of layers) { const c = rgb(layer), a = c[3] / 255;
        ground = ground.map((v, i) => v * (1 - a) + c[i] * a); }
    const light = c => { const [r, g, b] = Array.from(c).slice(0, 3).map(v => { v /= 255;
        return v <= .03928 ? v / 12.92 : Math.pow((v + .055) / 1.055, 2.4); });
        return .2126*r + .7152*g + .0722*b; };
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground)].sort((x, y) => y - x);
    return [(a + .05) / (b + .05), light(ground)];
}"""


def contrast_of(text: Locator) -> float:
    return float(text.evaluate(RATIO)[0])


def save(page: Page) -> None:
    with page.expect_navigation():
        page.click("button[name=_save]")


def test_it_composes_and_starts_a_psi_by_hand(page: Page, live_server: Any) -> None:
    page.goto("/admin/")
    expect(page.get_by_text("Getting to a first run")).to_be_visible()
    for index, (name, dataset, key) in enumerate((("alice", "customers", "uid"), ("bob", "clients", "user_id"))):
        page.goto("/admin/controlplane/party/add/")
        page.fill("[name=name]", name)
        page.fill("[name=address]", "127.0.0.1")
        page.fill("[name=port_first]", str(20000 + 100 * index))
        page.fill("[name=port_last]", str(20099 + 100 * index))
        save(page)
        page.goto("/admin/controlplane/dataset/add/")
        page.select_option("[name=party]", label=name)
        page.fill("[name=name]", dataset)
        row(page, "Column").locator("input").fill(key)
        page.locator(".rjf-check-input input").first.check()
        save(page)
    assert Dataset.objects.get(name="clients").columns == {"user_id": "str"}
    assert Dataset.objects.get(name="clients").key_columns == ["user_id"]

    page.goto("/admin/controlplane/clusterconfig/add/")
    page.fill("[name=name]", "both")
    choose(group(page, "Parties"), "bob", "alice")
    save(page)
    assert ClusterConfig.objects.get().document["parties"] == ["bob", "alice"]

    page.goto("/admin/controlplane/spuconfig/add/")
    page.fill("[name=name]", "semi2k")
    row(page, "FXP fraction bits").locator("input").fill("18")
    save(page)
    # what was left empty is left out
    assert SPUConfig.objects.get().document == {
        "enable_spu": True,
        "runtime_config": {"protocol": "SEMI2K", "field": "FM128", "fxp_fraction_bits": 18},
    }

    page.goto("/admin/controlplane/task/add/")
    page.fill("[name=name]", "psi")
    page.select_option("[name=spu]", label="semi2k")
    sources, outputs = group(page, "Data sources"), group(page, "Outputs")
    for name, dataset in (("alice", "customers"), ("bob", "clients")):
        row(sources, name).locator("select").select_option(dataset)
        row(outputs, name).locator("input").fill("common")
    keys = group(page, "Input keys")
    choose(group(keys, "alice"), "uid")
    choose(group(keys, "bob"), "user_id")
    choose(group(page, "Receivers"), "alice", "bob")
    save(page)
    task = Task.objects.get()
    params = PSI["algorithm_params"]["psi_params"] | {"protocol": "PROTOCOL_RR22"}
    assert task.document == PSI | {"algorithm_params": {"psi_params": params}}

    page.goto(f"/admin/controlplane/task/{task.pk}/change/")
    page.click("text=Run now")
    page.click("button:has-text('Run now')")
    page.wait_for_url("**/executions/execution/*/change/")
    execution = Execution.objects.get()
    assert execution.task == task
    expect(page.locator(".cp-head .cp-badge")).to_have_text("queued")


def test_it_changes_the_form_with_the_task_type_and_keeps_what_was_entered(page: Page) -> None:
    make_task()
    page.goto("/admin/controlplane/task/add/")
    page.fill("[name=name]", "training")
    row(page, "Domain").locator("input").fill("marketing")
    with page.expect_navigation():
        page.select_option("[name=task_type]", "lr")
    expect(row(page, "Epochs").locator("input")).to_have_value("5")
    expect(page.locator("[name=name]")).to_have_value("training")
    expect(row(page, "Domain").locator("input")).to_have_value("marketing")
    expect(page.locator(".errornote")).to_have_count(0)
    assert not Task.objects.filter(name="training").exists()


def test_it_shows_a_problem_at_its_field_and_keeps_the_rest(page: Page) -> None:
    task = make_task()
    Dataset.objects.filter(name="clients").update(columns={"client_id": "str"})
    page.goto(f"/admin/controlplane/task/{task.pk}/change/")
    save(page)
    message = "bob's dataset clients has no column 'user_id'"
    expect(page.locator(".errors", has_text="algorithm_params.psi_params.input_keys.bob.0").first).to_be_visible()
    expect(group(group(page, "Input keys"), "bob").locator("span.rjf-error-text")).to_contain_text(message)
    expect(row(group(page, "Data sources"), "bob").locator("select")).to_have_value("clients")


def test_looking_at_a_document_and_saving_it_changes_nothing(page: Page) -> None:
    make_parties()
    document = {
        "parties": ["bob", "alice"],
        "cross_silo_comm_backend": "grpc",
        "cross_silo_comm_options": {"timeout_in_ms": 5000},
        "logging_level": "info",
    }
    config = ClusterConfig.objects.create(name="both", document=document)
    page.goto(f"/admin/controlplane/clusterconfig/{config.pk}/change/")
    save(page)
    config.refresh_from_db()
    assert config.document == document


def test_a_running_execution_refreshes_itself_until_it_has_ended(page: Page) -> None:
    task = make_task()
    execution = Execution.objects.submit(task.documents(), task=task)
    transition(execution, Status.DISPATCHED, dispatched_at=timezone.now())
    transition(execution, Status.RUNNING, started_at=timezone.now(), attempt=1)
    execution.refresh_from_db()
    for party in Party.objects.all():
        PartyRun.objects.create(execution=execution, party=party, attempt=1, job_id=party.name, status="RUNNING")
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url) if "fragment" in request.url else None)
    page.goto(f"/admin/executions/execution/{execution.pk}/change/")
    badge = page.locator(".cp-head .cp-badge")
    expect(badge).to_have_text("running")
    page.locator("summary", has_text="task_config").click()
    PartyRun.objects.filter(party__name="alice").update(stage="task_execution", progress=0.42)
    expect(page.locator("[data-party=alice]")).to_contain_text("42 %")
    transition(execution, Status.FAILURE, why="bob failed", error="the disk is full", error_type="ResourceError")
    expect(badge).to_have_text("failure")
    expect(page.get_by_role("alert")).to_contain_text("the disk is full")
    expect(page.locator("button:has-text('Cancel')")).to_have_count(0)
    # what was unfolded stayed unfolded
    expect(page.locator("pre", has_text="psi_params")).to_be_visible()
    asked = len(fetched)
    page.wait_for_timeout(2500)
    assert len(fetched) == asked


def test_it_cancels_after_asking(page: Page) -> None:
    task = make_task()
    execution = Execution.objects.submit(task.documents(), task=task)
    page.goto(f"/admin/executions/execution/{execution.pk}/change/")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.click("button:has-text('Cancel')")
    page.wait_for_timeout(300)
    execution.refresh_from_db()
    assert execution.status == Status.QUEUED
    page.once("dialog", lambda dialog: dialog.accept())
    with page.expect_navigation():
        page.click("button:has-text('Cancel')")
    expect(page.locator(".cp-head .cp-badge")).to_have_text("cancelled")
    assert StateChange.objects.filter(execution=execution, to_status="CANCELLED", by__username="root").exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_modes(page: Page, scheme: Any) -> None:
    """Our own style sheet follows unfold's mode, and text stands out from its ground."""
    task = make_task()
    execution = Execution.objects.submit(task.documents(), task=task)
    Execution.objects.filter(pk=execution.pk).update(error="no", error_type="ConfigError", waiting_for="a worker")
    page.emulate_media(color_scheme=scheme)
    page.goto(f"/admin/executions/execution/{execution.pk}/change/")
    expect(page.locator("html.dark")).to_have_count(1 if scheme == "dark" else 0)
    for selector in (".cp-title", ".cp-badge", ".cp-facts dt", ".cp-facts dd", ".cp-error p", ".cp-note", "summary"):
        contrast, ground = page.locator(selector).first.evaluate(RATIO)
        assert contrast >= 4, selector
        assert (ground < 0.2) == (scheme == "dark"), selector


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_change_says_what_it_breaks_and_is_taken_back(page: Page, scheme: Any) -> None:
    task = make_task()
    page.emulate_media(color_scheme=scheme)
    page.goto(f"/admin/controlplane/spuconfig/{task.spu_id}/change/")
    expect(page.locator(".cp-usage a")).to_have_text("customers-psi")
    row(page, "Protocol").locator("select").select_option("ABY3")
    save(page)
    expect(page.get_by_text("1 task uses it; not valid now: 1.")).to_be_visible()
    expect(page.get_by_text("ABY3 needs exactly 3 parties")).to_be_visible()

    page.goto(f"/admin/controlplane/spuconfig/{task.spu_id}/history/")
    changed, created = page.locator(".cp-history tbody tr").all()[-2:]
    expect(changed).to_contain_text("root")
    expect(changed).to_contain_text('{"protocol": "ABY3"')
    assert contrast_of(changed.locator("b").first) >= 4
    created.locator("a").click()
    expect(row(page, "Protocol").locator("select")).to_have_value("SEMI2K")
    save(page)
    expect(page.get_by_text("1 task uses it, and stays valid.")).to_be_visible()
    assert SPUConfig.objects.get().version == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tier_is_seen_in_both_modes(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto("/admin/controlplane/site/")
    page.fill("[name=environment]", "dev")
    page.select_option("[name=security]", "trial")
    with page.expect_navigation():
        page.click("button[name=_continue]")
    expect(page.locator(".cp-tier")).to_be_visible()
    expect(page.get_by_text("dev trial")).to_be_visible()
    assert contrast_of(page.locator(".cp-tier")) >= 4.5
