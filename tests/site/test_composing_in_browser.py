"""From an empty database to the result of a first intersection, by the admin's pages alone; mistakes on the way are
told at their field. The site, the coordinator, the parties' hosts and SecretFlow run as in production."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from controlplane.environment import ROOT
from executions.trial.stack import Trial
from fixtures.tables import clear_auc, write_tables
from tests.browser import choose, group, needs_chromium, row, save, started_chromium, watched_page
from tests.stack import DIRECTORY

pytestmark = [pytest.mark.browser, pytest.mark.pipeline, needs_chromium]

LIMIT = 30.0
#: Whatever is protected by what uses it comes after it.
REGISTERED = ("schedules", "pipelines", "tasks", "spu-configs", "heu-configs", "cluster-configs", "datasets", "parties")
#: What the form makes of the choices in the story, with the values that it fills in beforehand.
DOCUMENT = {
    "data_sources": {"alice": "breast_cancer", "bob": "breast_cancer"},
    "outputs": {"alice": "common", "bob": "common"},
    "algorithm_params": {
        "psi_params": {
            "input_keys": {"alice": ["uid"], "bob": ["uid"]},
            "protocol": "PROTOCOL_RR22",
            "join_type": "inner_join",
            "receivers": ["alice", "bob"],
        }
    },
}


@pytest.fixture(scope="module")
def tables() -> dict[str, Path]:
    directory = DIRECTORY / "composing"
    directory.mkdir()
    return write_tables(directory)


@pytest.fixture(scope="module")
def trial(tables: dict[str, Path]) -> Iterator[Trial]:
    with Trial(DIRECTORY / "composing") as trial:
        service = trial.start({party: {"breast_cancer": tables[party]} for party in trial.parties})
        for what in REGISTERED:
            for entry in service.call("GET", f"/api/v1/{what}/")["results"]:
                service.call("DELETE", f"/api/v1/{what}/{entry['id']}/")
        yield trial


@pytest.fixture
def page(trial: Trial) -> Iterator[Page]:
    with started_chromium() as browser, watched_page(browser, trial.url) as page:
        yield page


def errors_at(page: Page, name: str) -> Locator:
    """What a form says at one of its fields."""
    return page.locator(f".field-{name} .errorlist")


def error_in(field: Locator) -> Locator:
    """What the document's form says at one of its fields."""
    return field.locator(".rjf-error-text:visible")


def show(page: Page, view: str) -> None:
    with page.expect_navigation():
        page.get_by_role("button", name=view, exact=True).click()


def json_of(page: Page) -> Any:
    return json.loads(page.locator("textarea[aria-label=JSON]").input_value())


def fill_party(page: Page, name: str, first: int, last: int, keys: str) -> None:
    page.fill("[name=name]", name)
    page.fill("[name=address]", "127.0.0.1")
    page.fill("[name=port_first]", str(first))
    page.fill("[name=port_last]", str(last))
    page.fill("[name=signing_keys]", keys)
    save(page)


def publish_datasets(trial: Trial, party: str) -> None:
    """As on the party's own host."""
    env = os.environ | trial.party_env(party)
    command = [sys.executable, "manage.py", "publish_datasets"]
    subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=True, timeout=60)


def test_from_nothing_to_an_intersection(page: Page, trial: Trial, tables: dict[str, Path]) -> None:
    page.goto("/admin/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", trial.password)
    with page.expect_navigation():
        page.click("button[type=submit]")
    expect(page.get_by_text("Set up your first run")).to_be_visible()

    register_the_parties(page, trial)
    publish_and_look_at_the_datasets(page, trial)
    configure_cluster_and_devices(page)
    compose_the_task(page)
    save_only_what_is_a_valid_document(page)
    dry_run(page)
    run_it(page, common=clear_auc(tables["alice"], tables["bob"])[0])


def register_the_parties(page: Page, trial: Trial) -> None:
    alice, bob = trial.ports["alice"], trial.ports["bob"]
    page.goto("/admin/controlplane/party/add/")
    fill_party(page, "alice", *alice, trial.signing_keys["alice"])
    page.goto("/admin/controlplane/party/add/")
    fill_party(page, "bob", alice[1], alice[1] + 9, trial.signing_keys["bob"])
    expect(errors_at(page, "port_first")).to_contain_text(f"overlaps that of alice ({alice[0]}-{alice[1]})")
    fill_party(page, "bob", *bob, trial.signing_keys["bob"])
    expect(page.locator("#result_list tbody tr")).to_have_count(2)


def publish_and_look_at_the_datasets(page: Page, trial: Trial) -> None:
    for party in trial.parties:
        publish_datasets(trial, party)
    registered = page.locator("#result_list tbody tr", has_text="as registered")
    end = time.monotonic() + LIMIT
    page.goto("/admin/controlplane/dataset/")
    while registered.count() < len(trial.parties):  # the coordinator takes in what was published
        assert time.monotonic() < end, page.locator("#content").inner_text()
        page.reload()
    for party in trial.parties:
        expect(registered.filter(has_text=party)).to_contain_text("uid")


def configure_cluster_and_devices(page: Page) -> None:
    page.goto("/admin/controlplane/clusterconfig/add/")
    page.fill("[name=name]", "both")
    choose(group(page, "Parties"), "bob")
    save(page)
    expect(errors_at(page, "document")).to_contain_text("parties: ")

    expect(error_in(group(page, "Parties"))).to_contain_text("should have at least 2")
    choose(group(page, "Parties"), "alice")
    save(page)
    expect(page.locator("#result_list tbody tr")).to_contain_text("bob, alice")  # in the order of choosing

    page.goto("/admin/controlplane/spuconfig/add/")
    page.fill("[name=name]", "for three")
    row(page, "Protocol").locator("select").select_option("ABY3")
    save(page)
    page.goto("/admin/controlplane/spuconfig/add/")
    page.fill("[name=name]", "semi2k")
    page.locator("button", has_text="more settings").click()
    bits = row(page, "FXP fraction bits")
    bits.locator("input").fill("64")
    save(page)
    expect(error_in(bits)).to_contain_text("less than or equal to 63")
    bits.locator("input").fill("18")
    save(page)
    page.click("#result_list tbody a:text-is('semi2k')")
    show(page, "JSON")
    runtime = {"protocol": "SEMI2K", "field": "FM128", "fxp_fraction_bits": 18}
    assert json_of(page) == {"enable_spu": True, "runtime_config": runtime}, "what was left empty is left out"


def compose_the_task(page: Page) -> None:
    """With every mistake that the form lets one make; all of them are told at once."""
    page.goto("/admin/controlplane/task/add/")
    page.fill("[name=name]", "first")
    page.select_option("[name=spu]", label="for three")
    row(group(page, "Data sources"), "alice").locator("select").select_option("breast_cancer")
    row(group(page, "Outputs"), "alice").locator("input").fill("breast_cancer")
    keys = group(page, "Input keys")
    choose(group(keys, "alice"), "uid")
    choose(group(keys, "bob"), "uid", "malignant")
    choose(group(page, "Receivers"), "alice", "bob")
    save(page)
    sources, outputs = group(page, "Data sources"), group(page, "Outputs")
    expect(errors_at(page, "spu")).to_contain_text("ABY3 needs exactly 3 parties, the cluster has 2")
    expect(error_in(row(sources, "bob"))).to_contain_text("name a dataset of bob")
    expect(error_in(row(outputs, "bob"))).to_contain_text("bob is a receiver: name what it keeps the rows as")
    expect(error_in(row(outputs, "alice"))).to_contain_text("breast_cancer is a dataset that alice registered")
    expect(error_in(row(sources, "alice"))).to_have_count(0)

    page.select_option("[name=spu]", label="semi2k")
    row(sources, "bob").locator("select").select_option("breast_cancer")
    for party in ("alice", "bob"):
        row(outputs, party).locator("input").fill("common")
    page.fill("[name=priority]", "99999")
    save(page)
    expect(errors_at(page, "priority")).to_contain_text("32767")
    page.fill("[name=priority]", "3")
    save(page)
    expect(error_in(keys)).to_contain_text("name different numbers of columns")
    group(keys, "bob").get_by_title("Remove").last.click()


def save_only_what_is_a_valid_document(page: Page) -> None:
    """In the other view, which shows what the form holds, and gives it back."""
    show(page, "JSON")
    text = page.locator("textarea[aria-label=JSON]")
    document = json_of(page)
    assert document == DOCUMENT
    text.fill(json.dumps(document)[:-1])
    save(page)
    expect(errors_at(page, "document")).to_contain_text("This is no JSON")
    text.fill(json.dumps(document | {"output": document["outputs"]}))
    save(page)
    expect(errors_at(page, "document")).to_contain_text("output: unknown key; did you mean 'outputs'?")
    text.fill(json.dumps(document | {"domain": "screening"}))
    show(page, "Form")
    expect(row(page, "Domain").locator("input")).to_have_value("screening")
    expect(row(group(page, "Data sources"), "bob").locator("select")).to_have_value("breast_cancer")
    save(page)
    expect(page.locator("#result_list tbody tr")).to_contain_text("bob/breast_cancer, alice/breast_cancer")


def dry_run(page: Page) -> None:
    page.click("#result_list tbody a:text-is('first')")
    page.get_by_role("link", name="Dry run").click()
    expect(page.locator(".cp-head .cp-badge").first).to_have_text("ready")
    page.click("button:has-text('Check now')")
    expect(page.locator("[data-live] .cp-badge").first).to_have_text("passed", timeout=LIMIT * 1000)
    for party in ("alice", "bob"):
        expect(page.locator(f"[data-checked={party}] .cp-right").first).to_be_visible()
    expect(page.locator(".cp-wrong")).to_have_count(0)
    page.click("a:text-is('Back')")


def run_it(page: Page, common: int) -> None:
    page.click("text=Run now")
    page.click("button:has-text('Run now')")
    page.wait_for_url("**/executions/execution/*/change/")
    expect(page.locator(".cp-head .cp-badge").first).to_have_text("success", timeout=LIMIT * 1000)
    expect(page.locator(".cp-headline")).to_contain_text(f"{common:,} rows in common")
    expect(page.locator(".cp-overlap .cp-count")).to_have_text(f"{common:,}")
    for party in ("alice", "bob"):
        expect(page.locator(".cp-lane", has_text=party).locator(".cp-phase-computing")).to_have_count(1)
