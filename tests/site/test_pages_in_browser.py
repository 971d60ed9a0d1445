"""The admin's pages in a real browser: the forms are built by JavaScript, and a running execution refreshes itself."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from controlplane.models import ClusterConfig, Dataset, Party, SPUConfig, Task
from executions.models import Execution, PartyRun, PipelineRun, StateChange
from executions.states import Status, transition
from tests.browser import group, needs_chromium, row, save
from tests.composed import make_chain, make_parties, make_task
from tests.simulated import end_node, settle_pipelines

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    # each test commits, for the server is another thread
    pytest.mark.django_db(transaction=True),
]


#: A text's contrast, and how light its ground is; of a text in a picture that of the box around it.
RATIO = """element => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data; };
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
    const drawn = element.ownerSVGElement;
    if (drawn) layers.push(getComputedStyle(element.parentElement.querySelector("rect")).fill);
    canvas.fillStyle = "#fff"; let ground = [255, 255, 255];
    for (const layer of layers) { const c = rgb(layer), a = c[3] / 255;
        ground = ground.map((v, i) => v * (1 - a) + c[i] * a); }
    const light = c => { const [r, g, b] = Array.from(c).slice(0, 3).map(v => { v /= 255;
        return v <= .03928 ? v / 12.92 : Math.pow((v + .055) / 1.055, 2.4); });
        return .2126*r + .7152*g + .0722*b; };
    const text = rgb(getComputedStyle(element)[drawn ? "fill" : "color"]);
    const [a, b] = [light(text), light(ground)].sort((x, y) => y - x);
    return [(a + .05) / (b + .05), light(ground)];
}"""


def contrast_of(text: Locator) -> float:
    return float(text.evaluate(RATIO)[0])


def test_columns_of_a_dataset_are_rows_to_type(page: Page) -> None:
    Party.objects.create(name="alice", address="127.0.0.1", port_first=20000, port_last=20099)
    page.goto("/admin/controlplane/dataset/add/")
    page.locator(".field-party .select2-selection").click()
    page.fill(".select2-search__field", "ali")
    page.locator(".select2-results__option", has_text="alice").click()
    page.fill("[name=name]", "customers")
    row(page, "Column").locator("input").fill("uid")
    page.locator(".rjf-check-input input").first.check()
    save(page)
    dataset = Dataset.objects.get()
    assert (dataset.columns, dataset.key_columns) == ({"uid": "str"}, ["uid"])


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


def test_what_nobody_has_set_is_folded_away_and_says_what_holds(page: Page) -> None:
    make_parties()
    page.goto("/admin/controlplane/spuconfig/add/")
    page.fill("[name=name]", "precise")
    expect(row(page, "Protocol")).to_be_visible()
    bits, sort = row(page, "FXP fraction bits"), row(page, "Sort method").locator("select")
    expect(bits).to_be_hidden()
    expect(row(page, "Connect retry times")).to_be_hidden()
    page.locator("button", has_text="more settings").click()
    bits.locator("input").fill("18")
    expect(sort.locator("option:checked")).to_have_text("(default)")
    sort.select_option("SORT_NETWORK")
    sort.select_option(label="(default)")
    save(page)
    document = SPUConfig.objects.get().document
    assert document["runtime_config"] == {"protocol": "SEMI2K", "field": "FM128", "fxp_fraction_bits": 18}
    page.goto(f"/admin/controlplane/spuconfig/{SPUConfig.objects.get().pk}/change/")
    expect(bits).to_be_visible()
    expect(sort).to_be_hidden()
    group(page, "Link desc").locator(".rjf-collapse-button").click()
    connection = row(page, "BRPC channel connection type").locator("select")
    expect(connection.locator("option:checked")).to_have_text("(default)")


def test_a_secret_is_not_shown_while_it_is_typed(page: Page) -> None:
    make_parties()
    page.goto("/admin/controlplane/deviceconfig/add/")
    for secret in (row(page, "Token"), row(group(page, "Pins"), "alice")):
        expect(secret.locator("input")).to_have_attribute("type", "password")


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


def test_a_result_is_drawn_sorted_and_looked_at_by_threshold(page: Page) -> None:
    bins = [[0.8, 10, 10, 0.9], [0.5, 10, 6, 0.65], [0.2, 20, 3, 0.35], [None, 10, 0, 0.1]]
    columns = ["from", "rows", "positives", "prediction"]
    result = {"rows": 50, "metrics": {"auc": 0.95}, "bins": {"columns": columns, "rows": bins}}
    task = make_task()
    execution = Execution.objects.submit(task.documents(), task=task)
    Execution.objects.filter(pk=execution.pk).update(status="SUCCESS", task_type="lr", result=result)
    page.goto(f"/admin/executions/execution/{execution.pk}/change/")
    expect(page.locator("canvas[data-plot]")).to_have_count(4)
    drawn = "all => all.map(canvas => Chart.getChart(canvas).data.datasets.length)"
    assert page.locator("canvas[data-plot]").evaluate_all(drawn) == [2, 2, 2, 2]
    matrix = page.locator("[data-confusion]")
    expect(matrix.locator("[data-cell='1']")).to_have_text("16")
    matrix.locator("input").focus()
    page.keyboard.press("ArrowLeft")
    expect(matrix.locator("output")).to_have_text("0.8")
    expect(matrix.locator("[data-cell='1']")).to_have_text("10")
    expect(matrix.locator("[data-rate='0']")).to_have_text("1.000")
    lift = page.locator(".cp-block", has=page.get_by_role("heading", name="Lift"))
    lift.locator("summary").click()
    lift.get_by_role("button", name="Lift", exact=True).click()
    first = lift.locator("tbody tr").first.locator("td").nth(1)
    expect(first).to_have_text("1")
    lift.get_by_role("button", name="Lift", exact=True).click()
    expect(first).to_have_text("2.63158")
    expect(lift.locator("th[aria-sort=descending]")).to_have_text("Lift")
    with page.expect_download() as download:
        lift.get_by_role("link", name="Download Lift as CSV").click()
    assert download.value.suggested_filename.endswith("_Lift.csv")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_modes(page: Page, scheme: Any) -> None:
    """Our own style sheet follows unfold's mode, and text stands out from its ground."""
    task = make_task()
    execution = Execution.objects.submit(task.documents(), task=task)
    # It has ended: a page that shows itself anew takes away what is being looked at
    Execution.objects.filter(pk=execution.pk).update(
        status="FAILURE", error="no", error_type="ConfigError", waiting_for="a worker"
    )
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


def test_a_pipeline_is_composed_drawn_and_followed(page: Page, connection: Any) -> None:
    make_chain()
    page.goto("/admin/controlplane/pipeline/add/")
    page.fill("[name=name]", "patients")
    nodes = page.locator(".rjf-form-group-inner")
    for index, (node, task, after) in enumerate((("lr", "train", "psy"), ("psi", "intersect", ""))):
        if index:
            page.click("button:has-text('Add item')")
        row(nodes.nth(index), "Node").locator("input").fill(node)
        row(nodes.nth(index), "Task").locator("select").select_option(task)
        row(nodes.nth(index), "Also after").locator("input").fill(after)
    save(page)
    wrong = "there is no node of this name; did you mean 'psi'?"
    expect(row(nodes.nth(0), "Also after").locator(".rjf-error-text")).to_contain_text(wrong)
    expect(page.locator(".x6-node")).to_have_count(2)
    row(nodes.nth(0), "Also after").locator("input").fill("")
    with page.expect_navigation():
        page.click("button[name=_continue]")
    expect(page.locator(".x6-edge")).to_have_count(1)

    page.click("a:has-text('Run now')")
    with page.expect_navigation():
        page.click("button:has-text('Run now')")
    lr, psi = (page.locator(f".cp-graph [data-node={name}]") for name in ("lr", "psi"))
    left, right = psi.bounding_box(), lr.bounding_box()
    assert left
    assert right
    assert left["x"] + left["width"] < right["x"]
    expect(page.locator(".cp-graph [data-from=psi][data-to=lr]")).to_have_count(1)
    expect(psi).to_contain_text("waiting")
    settle_pipelines()
    expect(psi).to_contain_text("queued")
    run = PipelineRun.objects.get()
    failed = end_node(run, "psi", Status.FAILURE)
    expect(psi).to_contain_text("failure")
    expect(psi).to_have_class("cp-node cp-node-danger")
    expect(lr).to_contain_text("blocked")
    schemes: tuple[Any, ...] = ("dark", "light")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        page.reload()
        expect(page.locator("html.dark")).to_have_count(1 if scheme == "dark" else 0)
        for text in page.locator(".cp-graph text").all():
            contrast, ground = text.evaluate(RATIO)
            assert contrast >= 4
            assert (ground < 0.2) == (scheme == "dark")
    with page.expect_navigation():
        page.click("[data-row=psi] button:has-text('Retry')")
    expect(psi).to_contain_text("waiting")
    settle_pipelines()
    end_node(run, "psi")
    expect(lr).to_contain_text("queued")
    page.click(".cp-graph [data-node=psi]")
    expect(page.locator(".cp-head .cp-badge")).to_have_text("success")
    assert str(failed.pk) not in page.url
