"""What parties log, for real: whole at home, on the page as far as each policy allows, and never a value, path or
secret where the policy does not say otherwise."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from secretflow_controlplane_client import Client

from controlplane.environment import ROOT
from executions.states import ENDED
from executions.trial.stack import CONTROL_PLANE, Trial
from fixtures.documents import psi_documents
from tests.browser import needs_chromium, started_chromium, watched_page
from tests.plugin.light_task import light_documents
from tests.stack import DIRECTORY
from workers.contract.logs import STAYS

pytestmark = pytest.mark.pipeline

CANARY = "zebrafish"
#: alice tells what is known, bob nothing.
POLICIES = {"alice": 'send = "debug"\nlines = 1000', "bob": ""}


class Site:
    def __init__(self, trial: Trial, service: Client) -> None:
        self.trial, self.service = trial, service

    def run(self, documents: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.ended(self.service.call("POST", "executions/", documents or psi_documents("people")))

    def ended(self, made: dict[str, Any]) -> dict[str, Any]:
        end = time.monotonic() + 90
        while (found := self.service.call("GET", f"executions/{made['id']}/"))["status"] not in ENDED:
            self.trial.check()
            assert time.monotonic() < end
            time.sleep(0.1)
        return found

    def lines(
        self, execution: dict[str, Any], until: str = "the process ended", party: str = "alice"
    ) -> list[dict[str, Any]]:
        """What the API has, once the last of it has come."""
        end = time.monotonic() + 15
        while True:
            found = self.service.call("GET", f"/api/v1/executions/{execution['id']}/logs/?page_size=50&party={party}")[
                "results"
            ]
            if any(until in line["text"] for line in found):
                return list(found)
            assert time.monotonic() < end, [line["text"] for line in found[-5:]]
            time.sleep(0.1)

    def party(self, party: str, *arguments: str) -> str:
        command = [sys.executable, "manage.py", "party", *arguments]
        env = self.trial.env | self.trial.party_env(party)
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    def set_policy(self, party: str, table: str) -> None:
        path = self.trial.party_dir(party) / "party.toml"
        before, _, after = path.read_text().partition("[logs]\n")
        rest = after[after.index("\n[") :] if "\n[" in after else ""
        path.write_text(f"{before}[logs]\n{table}\n{rest}")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = DIRECTORY / "logs-site"
    directory.mkdir()
    passwords = {CONTROL_PLANE: "controlplane", "alice": f"{CANARY}-password", "bob": "bob-password"}
    with pytest.MonkeyPatch.context() as patch, Trial(directory, redis_passwords=passwords) as trial:
        patch.setitem(trial.env, "PYTHONPATH", str(ROOT / "tests/plugin"))
        tables = {}
        for party in trial.parties:
            tables[party] = directory / f"{CANARY}-{party}" / "people.csv"
            tables[party].parent.mkdir()
            rows = "".join(f"{CANARY}{number:04},{CANARY}\n" for number in range(200))
            tables[party].write_text(f"uid,x\n{rows}")
        service = trial.start({party: {"people": path} for party, path in tables.items()})
        made = Site(trial, service)
        for party, table in POLICIES.items():
            made.set_policy(party, table)
            service.call(
                "POST", "/api/v1/datasets/",
                {"party": party, "name": "people", "columns": {"uid": "str", "x": "str"}, "key_columns": ["uid"]},
            )  # fmt: skip
        yield made
        assert trial.redis_denials() == []


def everywhere(trial: Trial) -> dict[str, bytes]:
    """All that Redis was ever told, and the database."""
    files = [*(trial.directory / "valkey").rglob("*"), *trial.directory.glob("db.sqlite3*")]
    return {path.name: path.read_bytes() for path in files if path.is_file()}


def test_values_paths_and_secrets_stay_at_home(site: Site) -> None:
    good = site.run()
    assert good["status"] == "SUCCESS", good["error"]
    lines = site.lines(good)
    told = site.service.call("GET", f"/api/v1/executions/{good['id']}/logs/")["results"]
    assert {line["party"] for line in told} == {"alice"}
    assert {"stage sf_init", "stage task_execution", "the process ended: exit status 0"} <= {
        line["text"] for line in lines
    }
    assert any(line["text"] == STAYS and line["source"].startswith("launch.cc:") for line in lines), "PSI's own words"
    assert any("[Rr22Psi" in line["text"] or "vole" in line["text"] for line in lines), "those that quote nothing"

    # All that other software may ever say of a table, and a failure that quotes it
    documents = light_documents(["alice", "bob"], 2, "people")
    documents["task_config"]["algorithm_params"]["light_params"] |= {"quotes": True, "breaks_at": "alice"}
    failed = site.run(documents)
    assert failed["status"] == "FAILURE"
    lines = site.lines(failed)
    assert any(line["source"] == "csv.cc:79" and line["text"] == STAYS for line in lines)
    assert any("failed in stage task_execution" in line["text"] for line in lines)
    assert f"ValueError: {STAYS}" in {line["text"] for line in lines}
    for party in site.trial.parties:
        whole = site.party(party, "logs", failed["id"][:8])
        assert whole.count(f"{CANARY}0001") >= 8, "all of it is at home"

    whole = site.party("alice", "logs", good["id"][:8])
    assert "launch.cc" in whole
    assert "stage sf_init" in whole
    assert "launch.cc" in site.party("bob", "logs", good["id"][:8])
    for name, content in everywhere(site.trial).items():
        assert CANARY.encode() not in content, name


def test_a_failure_is_told_with_places_and_without_values(site: Site) -> None:
    site.set_policy("alice", 'send = "error"')
    site.set_policy("bob", 'send = "failure"\nlines = 30')
    good = site.run()
    toml = site.trial.party_dir("bob") / "party.toml"
    before = toml.read_text()
    toml.write_text(before.replace("[policy]\n", "[policy]\nmin_intersection_rows = 100000\n"))
    failed = site.run()
    toml.write_text(before)
    assert (good["status"], failed["status"]) == ("SUCCESS", "FAILURE")
    lines = site.lines(failed, "failed in stage", "bob")
    assert 5 < len(lines) <= 30
    [line] = [line for line in lines if "failed in stage task_execution" in line["text"]]
    assert line["level"] == "error"
    assert line["source"].startswith("task_run.py:")
    assert any(line["text"].startswith("  at workers/runtime/task_run.py:") for line in lines)
    sent = site.service.call("GET", f"/api/v1/executions/{good['id']}/logs/?party=bob")["results"]
    assert sent == [], "bob tells of failures alone"
    for name, content in everywhere(site.trial).items():
        assert CANARY.encode() not in content, name


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def title_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def test_a_process_that_is_killed_leaves_its_log(site: Site) -> None:
    site.set_policy("alice", 'send = "failure"\nlines = 30')
    made = site.service.call("POST", "executions/", light_documents(["alice", "bob"], 2000, "people"))
    title = f"process of a job, alice-{made['id']}-1".encode()
    worker = site.trial.processes["worker-alice"].pid
    end = time.monotonic() + 60
    while not (found := [pid for pid in children_of(worker) if title in title_of(pid)]):
        assert time.monotonic() < end
        time.sleep(0.02)
    subprocess.run(["kill", "-SEGV", found[0]], check=True)
    lines = site.lines(made, "SIGSEGV")
    assert lines[-1]["text"] == "the process ended: signal 11 (SIGSEGV)" or any("SIGSEGV" in x["text"] for x in lines)
    failed = site.ended(made)
    assert (failed["status"], failed["error"]["party"]) == ("FAILURE", "alice"), failed["error"]


@needs_chromium
@pytest.mark.browser
def test_the_page_filters_and_follows(site: Site) -> None:
    site.set_policy("alice", 'send = "info"\nlines = 1000')
    with started_chromium() as browser, watched_page(browser, site.trial.url) as page:
        page.goto("/admin/login/")
        page.fill("[name=username]", "admin")
        page.fill("[name=password]", site.trial.password)
        page.click("[type=submit]")
        made = site.service.call("POST", "executions/", psi_documents("people"))
        page.goto(f"/admin/executions/execution/{made['id']}/change/")
        page.wait_for_selector("text=stage task_execution", timeout=30_000)
        page.wait_for_selector("text=the process ended: exit status 0", timeout=30_000)
        assert page.locator("[data-silent=bob]").count() == 1
        assert page.locator("[data-silent=alice]").count() == 0
        every = page.locator(".cp-log tbody tr").count()
        page.select_option("[name=log_level]", "warning")
        page.wait_for_function(f"document.querySelectorAll('.cp-log tbody tr').length < {every}")
        assert set(page.locator(".cp-log-level").all_inner_texts()) <= {"warning", "error", "critical"}
        with page.expect_download() as download:
            page.click(".cp-logs [download]")
        assert " INFO " not in Path(download.value.path()).read_text()
