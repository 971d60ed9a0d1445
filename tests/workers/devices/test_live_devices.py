"""Devices through the whole system: a third layer from another package (tests/plugin), whose secrets stay some; and
devices that stay up for the next execution of the same parties.

Nothing is faked but the third layer's hardware: one site, its coordinator, its workers and SecretFlow run as in
production.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from secretflow_controlplane_client import Client, ControlPlaneError

from controlplane.environment import ROOT
from executions.states import ENDED
from executions.trial.stack import Trial
from fixtures.documents import psi_documents
from fixtures.tables import write_tables
from tests.plugin.light_task import total_of
from tests.stack import DIRECTORY

pytestmark = pytest.mark.pipeline

LIMIT = 120.0
TWO = ("alice", "bob")
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
    """A trial and a client of it; the page of its admin, too."""

    def __init__(self, trial: Trial, service: Client) -> None:
        self.trial, self.service = trial, service
        self.redis = Redis.from_url(trial.redis_url)
        self._browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        login = self.page("/admin/login/")
        token = login.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        fields = {"username": "admin", "password": trial.password, "csrfmiddlewaretoken": token, "next": "/admin/"}
        self._browser.open(f"{trial.url}/admin/login/", urllib.parse.urlencode(fields).encode(), timeout=20)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return self.service.call(method, f"/api/v1/{path}", body)

    def refusal(self, method: str, path: str, body: Any) -> dict[str, str]:
        with pytest.raises(ControlPlaneError) as refused:
            self.call(method, path, body)
        return {problem.path or "": problem.detail for problem in refused.value.errors}

    def page(self, path: str) -> str:
        with self._browser.open(self.trial.url + path, timeout=20) as answer:
            return str(answer.read().decode())

    def wait(self, execution: dict[str, Any], until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        def look() -> bool:
            execution.update(self.service.call("GET", f"executions/{execution['id']}/"))
            return until(execution)

        wait_until(look)
        return execution

    def run(self, body: Any) -> dict[str, Any]:
        """The execution at its end."""
        return self.wait(self.service.call("POST", "executions/", body), lambda e: e["status"] in ENDED)

    def events(self, execution: dict[str, Any]) -> list[dict[str, Any]]:
        return list(self.call("GET", f"executions/{execution['id']}/events/?page_size=500")["results"])

    def stages(self, execution: dict[str, Any]) -> list[list[str]]:
        events = self.events(execution)
        return [list(dict.fromkeys(e["stage"] for e in events if e["party"] == party)) for party in TWO]

    def submit_psi(self, *, spu: Any = None, **task: Any) -> dict[str, Any]:
        """A PSI, or another task of both, over TLS, where links have files of their own as well."""
        body = psi_documents(**task)
        body["sf_init_config"] |= {"tls_config": {"enabled": True}}
        return dict(self.service.call("POST", "executions/", body | {"spu_config": spu or {}}))

    def run_psi(self, **wanted: Any) -> tuple[dict[str, Any], list[list[str]]]:
        """The execution at its end, and the stages that each party went through to get there."""
        self.trial.wait_for_workers()
        done = self.wait(self.submit_psi(**wanted), lambda e: e["status"] in ENDED)
        wait_until(lambda: all(stages[-1] == "cleanup" for stages in self.stages(done)))
        return done, self.stages(done)

    def reused(self, execution: dict[str, Any]) -> set[str]:
        """The runs whose session its parties say they used."""
        return {e["data"].get("reused_session", "") for e in self.events(execution) if e["stage"] == "sf_cluster_ready"}

    def holders(self) -> list[int]:
        """The processes that hold a session: they are at work, or wait for more, in their own directories."""
        found = []
        for party in TWO:
            worker = self.trial.processes[f"worker-{party}"].pid
            children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
            for pid in children:
                with suppress(FileNotFoundError):  # it has just ended
                    found += [int(pid)] if ".work" in str(Path(f"/proc/{pid}/cwd").readlink()) else []
        return found

    def ports_held(self) -> list[bytes]:
        return [self.redis.hget(key, "ports") or b"" for p in TWO for key in self.redis.smembers(f"rq:workers:{p}")]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.15)  # each look takes the site some 10 ms of a core, which the parties need


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = DIRECTORY / "devices"
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch, Trial(directory) as trial:
        patch.setitem(trial.env, "PYTHONPATH", str(ROOT / "tests/plugin"))
        tables = write_tables(directory)
        found = Site(trial, trial.start({p: {"breast_cancer": tables[p]} for p in trial.parties}))
        for party in found.call("GET", "parties/")["results"]:
            env = os.environ | {"PARTY_TOML": str(trial.party_dir(party["name"]) / "party.toml")}
            command = [sys.executable, "manage.py", "party", "keys"]
            said = [
                subprocess.run(
                    command, cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=60
                ).stdout
                for _ in range(2 if party["name"] == "alice" else 1)
            ]
            assert len(set(said)) == 1, "the second time it prints the same"
            found.call("PATCH", f"parties/{party['id']}/", {"public_key": re.findall("x25519:.*", said[0])[0]})
        yield found
        assert trial.redis_denials() == []


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
    with pytest.raises(ControlPlaneError) as refused:
        site.call("DELETE", f"device-configs/{config['id']}/")
    assert refused.value.status == 409
    assert named in str(refused.value)
    renamed = site.refusal("PATCH", f"device-configs/{config['id']}/", {"name": "rack 5"})
    assert "pseudonyms" in str(renamed)


def test_it_runs_with_ports_stages_and_events_of_its_own(site: Site, done: dict[str, Any]) -> None:
    assert done["status"] == "SUCCESS", done["error"]
    keys = [{line.split(",")[0] for line in path.read_text().splitlines()[1:]} for path in tables(site)]
    assert done["result"] == {"common": len(keys[0] & keys[1]), "length": 12}
    for stages in site.stages(done):
        assert [s for s in stages if s.endswith("_init")] == ["sf_init", "hsm_init"], "and no SPU"
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
    site.call("POST", f"executions/{retried['id']}/cancel/")
    fresh = {"name": "z", "layer": "hsm_config", "document": {"token": MASK}}
    assert "only the mask" in site.refusal("POST", "device-configs/", fresh)["document.token"]


def test_a_party_without_a_key_gets_no_secrets(site: Site, task: dict[str, Any]) -> None:
    [alice] = [p for p in site.call("GET", "parties/")["results"] if p["name"] == "alice"]
    site.call("PATCH", f"parties/{alice['id']}/", {"public_key": ""})
    try:
        refused = site.refusal("POST", "executions/", {"task": "pseudonyms"})
    finally:
        site.call("PATCH", f"parties/{alice['id']}/", {"public_key": alice["public_key"]})
    assert "run `manage.py party keys` on alice's host" in refused["sf_init_config.parties.0"]
    assert "x25519:" in site.refusal("PATCH", f"parties/{alice['id']}/", {"public_key": "x25519:AAAA"})["public_key"]


def test_no_secret_is_to_be_seen_anywhere(site: Site, device: dict[str, Any], done: dict[str, Any]) -> None:
    task = next(t for t in site.call("GET", "tasks/")["results"] if t["name"] == "pseudonyms")
    seen: dict[str, bytes] = {}
    for path in (
        f"/admin/controlplane/deviceconfig/{device['id']}/change/",
        f"/admin/controlplane/deviceconfig/{device['id']}/history/",
        "/admin/controlplane/deviceconfig/",
        f"/admin/controlplane/task/{task['id']}/change/",
        f"/admin/controlplane/task/{task['id']}/dry-run/",
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
    jobs = 0
    for key in site.redis.scan_iter():
        if site.redis.type(key) == b"hash":
            for field, value in site.redis.hgetall(key).items():
                if field == b"data" and key.startswith(b"rq:job:"):
                    value, jobs = zlib.decompress(value), jobs + 1
                    assert b"sealed:" in value, "this is where they travel"
                seen[f"{key!r} {field!r}"] = bytes(value)
    assert jobs >= 2
    for file in site.trial.directory.rglob("*"):
        if file.is_file() and file.suffix != ".csv":  # logs, database, Redis's own file, journals
            seen[str(file)] = file.read_bytes()
    assert any("db.sqlite3" in name for name in seen)
    planted = [secret.encode() for secret in (*PLANTED, site.trial.password, site.trial.token)]
    assert [name for name, content in seen.items() if any(secret in content for secret in planted)] == []


# --- devices that stay up: each test finds the session that the one before it left, or did not leave


KEEP = 600
FM64 = {"runtime_config": {"field": "FM64"}}
FRESH = ["task_started", "sf_init", "sf_cluster_ready", "spu_init", "devices_ready", "task_execution", "cleanup"]
REUSED = [stage for stage in FRESH if not stage.endswith("_init")]


def test_the_next_execution_uses_the_session_of_the_last(site: Site) -> None:
    first, stages = site.run_psi(keep_devices_seconds=KEEP)
    assert (first["status"], stages) == ("SUCCESS", [FRESH, FRESH]), first["error"]
    assert site.reused(first) == {""}
    processes = site.holders()
    assert len(processes) == 2

    for name, join in (("second", "inner_join"), ("third", "left_join")):
        task = psi_documents()["task_config"]["algorithm_params"]["psi_params"] | {"join_type": join}
        if join == "left_join":
            task["left_side"] = "alice"
        done, stages = site.run_psi(
            keep_devices_seconds=KEEP, outputs=dict.fromkeys(TWO, name), algorithm_params={"psi_params": task}
        )
        assert (done["status"], stages) == ("SUCCESS", [REUSED, REUSED]), done["error"]
        assert site.reused(done) == {f"{first['id']}-1"}
        assert [run["devices"] for run in done["runs"]] == [["spu"], ["spu"]]
        assert site.holders() == processes
    assert done["result"]["output_rows"] == {"alice": 460, "bob": 460}, "its own task, not the one before"
    work = [p.name for party in TWO for p in (site.trial.party_dir(party) / "outputs/.work").iterdir() if p.is_dir()]
    assert [name for name in work if not name.startswith("process-")] == [], "each run's own files are gone"


def test_another_configuration_gets_a_session_of_its_own(site: Site) -> None:
    before = site.holders()
    other, stages = site.run_psi(spu=FM64, keep_devices_seconds=KEEP)
    assert (other["status"], stages) == ("SUCCESS", [FRESH, FRESH]), other["error"]
    again, stages = site.run_psi(spu=FM64, keep_devices_seconds=KEEP)
    assert stages == [REUSED, REUSED]
    assert site.reused(again) == {f"{other['id']}-1"}
    assert len(site.holders()) == 2
    assert not {*site.holders()} & {*before}, "one at a time"


def test_a_party_whose_policy_was_changed_has_no_session(site: Site) -> None:
    toml = site.trial.party_dir("bob") / "party.toml"
    toml.write_text(toml.read_text().replace('peers = ["alice"]', 'peers = ["alice", "carol"]'))
    changed, stages = site.run_psi(spu=FM64, keep_devices_seconds=KEEP)
    assert (changed["status"], changed["attempt"], stages) == ("SUCCESS", 1, [FRESH, FRESH]), changed["error"]


def test_a_session_whose_process_was_killed_at_one_party_is_built_again(site: Site) -> None:
    bobs = site.holders()[1]
    os.kill(bobs, signal.SIGKILL)
    done, stages = site.run_psi(spu=FM64, keep_devices_seconds=KEEP)
    assert (done["status"], done["attempt"], stages) == ("SUCCESS", 1, [FRESH, FRESH]), done["error"]


LIGHT = {"task_type": "light", "outputs": {}}


def test_the_parties_agree_about_a_session_whose_last_number_takes_its_time(site: Site) -> None:
    # alice has that number to send when bob has long ended the run
    params = {"light_params": {"rounds": 1, "last_word_takes": 7}}
    done, stages = site.run_psi(spu=FM64, keep_devices_seconds=KEEP, **LIGHT, algorithm_params=params)
    assert (done["status"], stages) == ("SUCCESS", [REUSED, REUSED]), done["error"]
    done, stages = site.run_psi(spu=FM64, keep_devices_seconds=KEEP)
    assert (done["status"], stages) == ("SUCCESS", [REUSED, REUSED]), done["error"]


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_what_does_not_succeed_ends_the_session(site: Site, how: str) -> None:
    before = site.holders()
    rounds = {"rounds": 1, "breaks_at": "bob"} if how == "fails" else {"rounds": 100_000}
    site.trial.wait_for_workers()
    execution = site.submit_psi(
        spu=FM64, keep_devices_seconds=KEEP, **LIGHT, algorithm_params={"light_params": rounds}
    )  # another task type, of equal devices
    if how == "is cancelled":
        site.wait(execution, lambda e: e["stage"] == "task_execution")
        site.service.call("POST", f"/api/v1/executions/{execution['id']}/cancel/")
    ended = site.wait(execution, lambda e: e["status"] in ENDED)
    assert ended["status"] == ("FAILURE" if how == "fails" else "CANCELLED")
    assert "" not in site.reused(execution), "it had begun on the session"
    done, stages = site.run_psi(spu=FM64, keep_devices_seconds=KEEP)
    assert (done["status"], done["attempt"], stages) == ("SUCCESS", 1, [FRESH, FRESH]), done["error"]
    assert not {*site.holders()} & {*before}


def test_a_session_gives_way_where_its_ports_are_needed(site: Site) -> None:
    held = site.ports_held()
    assert [len(ports.split()) for ports in held] == [2, 2]
    [bob] = [p for p in site.service.call("GET", "/api/v1/parties/")["results"] if p["name"] == "bob"]
    # Of the two ports that bob has left one is the session's
    first = min(map(int, held[1].split()))
    place = f"/api/v1/parties/{bob['id']}/"
    site.service.call("PATCH", place, {"port_first": first, "port_last": first + 1})
    done, stages = site.run_psi(spu=FM64, keep_devices_seconds=5)
    assert (done["status"], stages) == ("SUCCESS", [FRESH, FRESH]), done["error"]


def test_a_session_ends_after_its_idle_limit(site: Site) -> None:
    # bob's too, though his ports were wanted a few seconds ago: that was for the run which left it
    assert all(site.ports_held())
    wait_until(lambda: site.ports_held() == [b"", b""])
    assert site.holders() == []


def test_links_that_hang_are_made_anew_by_fresh_processes_in_the_same_attempt(site: Site, tmp_path: Path) -> None:
    params = {"light_params": {"rounds": 3, "links_hang_at": str(tmp_path)}}
    done, _ = site.run_psi(spu=FM64, **LIGHT, algorithm_params=params)
    assert {file.name for file in tmp_path.iterdir()} == {"alice", "bob"}, "they hung at both"
    assert (done["status"], done["attempt"]) == ("SUCCESS", 1), done["error"]
    assert done["result"]["total"] == total_of(3, 2)
    begun = [event["party"] for event in site.events(done) if event["stage"] == "task_started"]
    assert sorted(begun) == ["alice", "alice", "bob", "bob"], "each party began twice"
