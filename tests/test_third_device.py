"""A third device layer, from another package (tests/plugin), through the whole system; and its secrets stay some.

Nothing is faked but the hardware: the site, the coordinator, the workers and SecretFlow run as in production.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from executions.service import ENDED, Service, ServiceError
from executions.trial import ROOT, Trial
from fixtures.tables import write_tables
from tests.stack import DIRECTORY

pytestmark = pytest.mark.pipeline

TOKEN = "planted-token-9d1f"
PINS = {"alice": "pin of alice", "bob": "pin of bob"}
PLANTED = [TOKEN, *PINS.values()]
MASK = "********"
DEVICE = {"token": TOKEN, "pins": PINS, "length": 12}
COLUMNS = {"alice": "uid", "bob": "uid"}
TASK = {
    "task_type": "pseudonymise",
    "data_sources": {"alice": "breast_cancer", "bob": "breast_cancer"},
    "algorithm_params": {"pseudonymise_params": {"columns": COLUMNS}},
}


class Site:
    def __init__(self, trial: Trial, service: Service) -> None:
        self.trial, self.service = trial, service
        self._browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        login = self.page("/admin/login/")
        token = login.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        fields = {"username": "admin", "password": trial.password, "csrfmiddlewaretoken": token, "next": "/admin/"}
        self._browser.open(f"{trial.url}/admin/login/", urllib.parse.urlencode(fields).encode(), timeout=20)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return self.service.call(method, f"/api/v1/{path}", body)

    def refusal(self, method: str, path: str, body: Any) -> dict[str, str]:
        with pytest.raises(ServiceError) as refused:
            self.call(method, path, body)
        errors = json.loads(str(refused.value).partition(": ")[2])["errors"]
        return {entry["attr"]: entry["detail"] for entry in errors}

    def page(self, path: str) -> str:
        with self._browser.open(self.trial.url + path, timeout=20) as answer:
            return str(answer.read().decode())

    def run(self, body: Any) -> dict[str, Any]:
        execution = self.service.submit(body)
        end = time.monotonic() + 120
        while execution["status"] not in ENDED:
            assert time.monotonic() < end, execution
            time.sleep(0.1)
            execution = self.service.execution(execution)
        return dict(execution)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = DIRECTORY / "third"
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch, Trial(directory) as trial:
        patch.setitem(trial.env, "PYTHONPATH", str(ROOT / "tests/plugin"))
        tables = write_tables(directory)
        found = Site(trial, trial.start({p: {"breast_cancer": tables[p]} for p in trial.parties}))
        for party in found.call("GET", "parties/")["results"]:
            env = os.environ | {"PARTY_TOML": str(trial.party_dir(party["name"]) / "party.toml")}
            command = [sys.executable, "manage.py", "party_key"]
            for _ in range(2):  # the second time it prints the same
                key = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=60)
                public = key.stdout.strip()
                found.call("PATCH", f"parties/{party['id']}/", {"public_key": public})
        yield found


@pytest.fixture(scope="module")
def device(site: Site) -> dict[str, Any]:
    body = {"name": "rack 3", "layer": "hsm_config", "document": DEVICE}
    return dict(site.call("POST", "device-configs/", body))


@pytest.fixture(scope="module")
def task(site: Site, device: dict[str, Any]) -> dict[str, Any]:
    body = {"name": "pseudonyms", "cluster": "alice and bob", "devices": {"hsm_config": "rack 3"}, "document": TASK}
    return dict(site.call("POST", "tasks/", body))


@pytest.fixture(scope="module")
def done(site: Site, task: dict[str, Any]) -> dict[str, Any]:
    return site.run({"task": "pseudonyms"})


def test_it_has_its_checks_and_its_form(site: Site, device: dict[str, Any]) -> None:
    body = {"name": "x", "layer": "hsm_config", "document": {"tokn": "a", "length": 3}}
    refused = site.refusal("POST", "device-configs/", body)
    assert set(refused) == {"document.token", "document.tokn", "document.length"}
    assert refused["document.tokn"] == "unknown key; did you mean 'token'?"
    assert (
        "did you mean 'hsm_config'?" in site.refusal("POST", "device-configs/", body | {"layer": "hms_config"})["layer"]
    )
    form = site.page("/admin/controlplane/deviceconfig/add/")
    assert "Key that all parties use." in form
    assert "Hash function of the pseudonyms." in form
    assert "hsm_config" in site.page("/admin/controlplane/task/add/")
    schema = site.call("GET", "schema/?format=json")["components"]["schemas"]
    assert schema["HSMConfigDocument"]["properties"]["token"]["writeOnly"] is True
    assert "hsm_config" in schema["SubmissionRequest" if "SubmissionRequest" in schema else "Submission"]["properties"]


def test_a_task_is_checked_with_it(site: Site, task: dict[str, Any]) -> None:
    body = {"name": "y", "cluster": "alice and bob", "document": TASK}
    assert "hsm_config" in str(site.refusal("POST", "tasks/", body)), "the task type needs the device"
    wrong = site.refusal("POST", "tasks/", body | {"devices": {"hsm_config": "rack 4"}})
    assert "did you mean 'rack 3'?" in str(wrong)
    unknown = site.refusal("POST", "tasks/", body | {"devices": {"gpu_config": "rack 3"}})
    assert "hsm_config" in str(unknown)
    named = "Task pseudonyms".lower()
    [config] = site.call("GET", "device-configs/")["results"]
    with pytest.raises(ServiceError) as refused:
        site.call("DELETE", f"device-configs/{config['id']}/")
    assert "409" in str(refused.value)
    assert named in str(refused.value)
    renamed = site.refusal("PATCH", f"device-configs/{config['id']}/", {"name": "rack 5"})
    assert "pseudonyms" in str(renamed)


def test_it_runs_with_ports_stages_and_events_of_its_own(site: Site, done: dict[str, Any]) -> None:
    assert done["status"] == "SUCCESS", done["error"]
    keys = [{line.split(",")[0] for line in path.read_text().splitlines()[1:]} for path in tables(site)]
    assert done["result"] == {"common": len(keys[0] & keys[1]), "length": 12}
    events = site.call("GET", f"executions/{done['id']}/events/")["results"]
    for party in site.trial.parties:
        stages = [e["stage"] for e in events if e["party"] == party]
        assert [s for s in dict.fromkeys(stages) if s.endswith("_init")] == ["sf_init", "hsm_init"], "and no SPU"
    assert all(len(run["devices"]) == 1 and run["devices"] == ["hsm"] for run in done["runs"])
    assert "hsm_init" in site.page(f"/admin/executions/execution/{done['id']}/change/")


def tables(site: Site) -> list[Path]:
    return [site.trial.directory / party / "breast_cancer.csv" for party in site.trial.parties]


def test_a_masked_secret_is_the_one_it_was(site: Site, device: dict[str, Any], done: dict[str, Any]) -> None:
    assert device["document"]["token"] == MASK
    changed = site.call("PATCH", f"device-configs/{device['id']}/", {"document": device["document"] | {"length": 10}})
    assert (changed["document"]["token"], changed["document"]["length"]) == (MASK, 10)
    again = site.run({"task": "pseudonyms"})
    assert (again["status"], again["result"]["length"]) == ("SUCCESS", 10), again["error"]
    retried = site.call("POST", f"executions/{done['id']}/retry/", {"hsm_config": done["documents"]["hsm_config"]})
    assert retried["status"] == "QUEUED"
    fresh = {"name": "z", "layer": "hsm_config", "document": {"token": MASK}}
    assert "only the mask" in site.refusal("POST", "device-configs/", fresh)["document.token"]


def test_a_party_without_a_key_gets_no_secrets(site: Site, task: dict[str, Any]) -> None:
    [alice] = [p for p in site.call("GET", "parties/")["results"] if p["name"] == "alice"]
    site.call("PATCH", f"parties/{alice['id']}/", {"public_key": ""})
    try:
        refused = site.refusal("POST", "executions/", {"task": "pseudonyms"})
    finally:
        site.call("PATCH", f"parties/{alice['id']}/", {"public_key": alice["public_key"]})
    assert "run `manage.py party_key` on alice's host" in refused["sf_init_config.parties.0"]
    assert "x25519:" in site.refusal("PATCH", f"parties/{alice['id']}/", {"public_key": "x25519:AAAA"})["public_key"]


def test_no_secret_is_to_be_seen_anywhere(site: Site, device: dict[str, Any], done: dict[str, Any]) -> None:
    task = next(t for t in site.call("GET", "tasks/")["results"] if t["name"] == "pseudonyms")
    seen: dict[str, bytes] = {}
    for path in (
        f"/admin/controlplane/deviceconfig/{device['id']}/change/",
        f"/admin/controlplane/deviceconfig/{device['id']}/history/",
        "/admin/controlplane/deviceconfig/",
        f"/admin/controlplane/task/{task['id']}/change/",
        f"/admin/controlplane/task/{task['id']}/preview/",
        f"/admin/controlplane/task/{task['id']}/history/",
        f"/admin/executions/execution/{done['id']}/change/",
        f"/admin/executions/execution/{done['id']}/rerun/",
        "/admin/",
    ):
        seen[path] = site.page(path).encode()
    for path in (
        f"device-configs/{device['id']}/", "device-configs/", f"tasks/{task['id']}/", f"executions/{done['id']}/",
        f"executions/{done['id']}/events/", "executions/", "parties/",
    ):  # fmt: skip
        seen[path] = json.dumps(site.call("GET", path)).encode()
    seen["dry run"] = json.dumps(site.call("POST", "executions/dry-run/", {"task": "pseudonyms"})).encode()
    wrong = {"hsm_config": {"token": TOKEN, "pins": {"alice": PINS["alice"]}, "x": TOKEN}, "task_config": TASK}
    seen["refusal"] = json.dumps(site.refusal("POST", "executions/", wrong)).encode()
    profile = subprocess.run(
        [sys.executable, "manage.py", "profile", "export"],
        cwd=ROOT, env=site.trial.env, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    seen["profile"] = profile.stdout + profile.stderr
    connection = Redis.from_url(site.trial.redis_url)
    jobs = 0
    for key in connection.scan_iter():
        if connection.type(key) == b"hash":
            for field, value in connection.hgetall(key).items():
                if field == b"data" and key.startswith(b"rq:job:"):
                    value, jobs = zlib.decompress(value), jobs + 1
                    assert b"sealed:" in value, "this is where they travel"
                seen[f"{key!r} {field!r}"] = bytes(value)
    assert jobs >= 2
    for file in site.trial.directory.rglob("*"):
        if file.is_file() and file.suffix != ".csv":  # logs, database, Redis's own file, journals
            seen[str(file)] = file.read_bytes()
    assert any("db.sqlite3" in name for name in seen)
    planted = [secret.encode() for secret in (*PLANTED, site.trial.password, site.service.token)]
    assert [name for name, content in seen.items() if any(secret in content for secret in planted)] == []
