"""Devices that stay up for the next execution of the same parties, for real: site, coordinator, workers, SecretFlow.

The tests go on from each other: each finds the session that the one before it left, or did not leave.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from executions.service import ENDED, Service
from executions.trial import ROOT, Trial
from fixtures.documents import psi_documents
from fixtures.tables import write_tables
from tests.stack import DIRECTORY

pytestmark = pytest.mark.pipeline

LIMIT = 60.0
TWO = ("alice", "bob")
KEEP = 600
FM64 = {"runtime_config": {"field": "FM64"}}


class Site:
    def __init__(self, trial: Trial, service: Service) -> None:
        self.trial, self.service = trial, service
        self.redis = Redis.from_url(trial.redis_url)

    def submit(self, *, spu: Any = None, **task: Any) -> dict[str, Any]:
        """Over TLS, where links have files of their own as well."""
        body = psi_documents(**task)
        body["sf_init_config"] |= {"tls_config": {"enabled": True}}
        return dict(self.service.submit(body | {"spu_config": spu or {}}))

    def wait(self, execution: dict[str, Any], until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        def look() -> bool:
            execution.update(self.service.execution(execution))
            return until(execution)

        wait_until(look)
        return execution

    def run(self, **wanted: Any) -> tuple[dict[str, Any], list[list[str]]]:
        """The execution at its end, and the stages that each party went through to get there."""
        self.trial.wait_for_workers()
        done = self.wait(self.submit(**wanted), lambda e: e["status"] in ENDED)
        wait_until(lambda: all(stages[-1] == "cleanup" for stages in self.stages(done)))
        return done, self.stages(done)

    def stages(self, execution: dict[str, Any]) -> list[list[str]]:
        events = self.events(execution)
        return [list(dict.fromkeys(e["stage"] for e in events if e["party"] == party)) for party in TWO]

    def events(self, execution: dict[str, Any]) -> list[dict[str, Any]]:
        return list(self.service.call("GET", f"/api/v1/executions/{execution['id']}/events/?page_size=500")["results"])

    def reused(self, execution: dict[str, Any]) -> set[str]:
        """The runs whose session its parties say they used."""
        return {e["data"].get("reused_session", "") for e in self.events(execution) if e["stage"] == "sf_cluster_ready"}

    def holders(self) -> list[int]:
        """The processes that hold a session: they are at work, or wait for more, in their own directories."""
        found = []
        for party in TWO:
            worker = self.trial.processes[f"worker-{party}"].pid
            children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
            found += [int(pid) for pid in children if ".work" in str(Path(f"/proc/{pid}/cwd").readlink())]
        return found

    def ports_held(self) -> list[bytes]:
        return [self.redis.hget(key, "ports") or b"" for p in TWO for key in self.redis.smembers(f"rq:workers:{p}")]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


FRESH = ["task_started", "sf_init", "sf_cluster_ready", "spu_init", "devices_ready", "task_execution", "cleanup"]
REUSED = [stage for stage in FRESH if not stage.endswith("_init")]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = DIRECTORY / "reuse"
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch, Trial(directory) as trial:
        patch.setitem(trial.env, "PYTHONPATH", str(ROOT / "tests/plugin"))
        tables = write_tables(directory)
        yield Site(trial, trial.start({p: {"breast_cancer": tables[p]} for p in trial.parties}))


def test_the_next_execution_uses_the_session_of_the_last(site: Site) -> None:
    first, stages = site.run(keep_devices_seconds=KEEP)
    assert (first["status"], stages) == ("SUCCESS", [FRESH, FRESH]), first["error"]
    assert site.reused(first) == {""}
    processes = site.holders()
    assert len(processes) == 2

    for name, join in (("second", "inner_join"), ("third", "left_join")):
        task = psi_documents()["task_config"]["algorithm_params"]["psi_params"] | {"join_type": join}
        if join == "left_join":
            task["left_side"] = "alice"
        done, stages = site.run(
            keep_devices_seconds=KEEP, outputs=dict.fromkeys(TWO, name), algorithm_params={"psi_params": task}
        )
        assert (done["status"], stages) == ("SUCCESS", [REUSED, REUSED]), done["error"]
        assert site.reused(done) == {f"{first['id']}-1"}
        assert [run["devices"] for run in done["runs"]] == [["spu"], ["spu"]]
        assert site.holders() == processes
    assert done["result"]["output_rows"] == {"alice": 460, "bob": 460}, "its own task, not the one before"
    work = [p.name for party in TWO for p in (site.trial.party_dir(party) / "outputs/.work").iterdir() if p.is_dir()]
    assert [name for name in work if not name.startswith("standby-")] == [], "each run's own files are gone"


def test_another_configuration_gets_a_session_of_its_own(site: Site) -> None:
    before = site.holders()
    other, stages = site.run(spu=FM64, keep_devices_seconds=KEEP)
    assert (other["status"], stages) == ("SUCCESS", [FRESH, FRESH]), other["error"]
    again, stages = site.run(spu=FM64, keep_devices_seconds=KEEP)
    assert stages == [REUSED, REUSED]
    assert site.reused(again) == {f"{other['id']}-1"}
    assert len(site.holders()) == 2
    assert not {*site.holders()} & {*before}, "one at a time"


def test_a_party_whose_policy_was_changed_has_no_session(site: Site) -> None:
    toml = site.trial.party_dir("bob") / "party.toml"
    toml.write_text(toml.read_text().replace('peers = ["alice"]', 'peers = ["alice", "carol"]'))
    changed, stages = site.run(spu=FM64, keep_devices_seconds=KEEP)
    assert (changed["status"], changed["attempt"], stages) == ("SUCCESS", 1, [FRESH, FRESH]), changed["error"]


def test_a_session_whose_process_was_killed_at_one_party_is_built_again(site: Site) -> None:
    bobs = site.holders()[1]
    os.kill(bobs, signal.SIGKILL)
    done, stages = site.run(spu=FM64, keep_devices_seconds=KEEP)
    assert (done["status"], done["attempt"], stages) == ("SUCCESS", 1, [FRESH, FRESH]), done["error"]


LIGHT = {"task_type": "light", "outputs": {}}


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_what_does_not_succeed_ends_the_session(site: Site, how: str) -> None:
    before = site.holders()
    rounds = {"rounds": 1, "breaks_at": "bob"} if how == "fails" else {"rounds": 100_000}
    site.trial.wait_for_workers()
    execution = site.submit(
        spu=FM64, keep_devices_seconds=KEEP, **LIGHT, algorithm_params={"light_params": rounds}
    )  # another task type, of equal devices
    if how == "is cancelled":
        site.wait(execution, lambda e: e["stage"] == "task_execution")
        site.service.call("POST", f"/api/v1/executions/{execution['id']}/cancel/")
    ended = site.wait(execution, lambda e: e["status"] in ENDED)
    assert ended["status"] == ("FAILURE" if how == "fails" else "CANCELLED")
    assert "" not in site.reused(execution), "it had begun on the session"
    done, stages = site.run(spu=FM64, keep_devices_seconds=KEEP)
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
    done, stages = site.run(spu=FM64, keep_devices_seconds=2)
    assert (done["status"], stages) == ("SUCCESS", [FRESH, FRESH]), done["error"]


def test_a_session_ends_after_its_idle_limit(site: Site) -> None:
    assert len(site.holders()) == 2
    wait_until(lambda: site.ports_held() == [b"", b""])
    assert site.holders() == []
