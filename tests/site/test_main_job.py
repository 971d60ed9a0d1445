"""The main job, for real: REST API, coordinator, Redis, one worker process per party, SecretFlow over the network.

Nothing here is faked. One site serves the whole module; its processes run for its length, unless a test
kills them.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from secretflow_controlplane_client import Client, EventTold, StateTold

from controlplane.environment import ROOT
from executions.states import ENDED
from executions.trial.stack import Trial
from fixtures.documents import psi_documents
from fixtures.tables import clear_auc, write_tables
from tests.site.chaos.checks import are_complete
from tests.site.guide_at_work import by_curl, receiver
from tests.stack import DIRECTORY
from workers.runtime.worker import WORKER_SEQUENCE

pytestmark = pytest.mark.pipeline

TIME_LIMIT = 150.0
TWO = ("alice", "bob")
#: Of runs whose devices are of no matter: those after the first find them up.
KEEP = 600


class Site:
    """A trial and a client of it."""

    def __init__(self, trial: Trial, service: Client, tables: dict[str, Path]) -> None:
        self.trial, self.service, self.tables = trial, service, tables

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.service.call("POST", "executions/", body)

    def get(self, execution: dict[str, Any]) -> dict[str, Any]:
        return self.service.call("GET", f"executions/{execution['id']}/")

    def wait(
        self,
        execution: dict[str, Any],
        until: Callable[[dict[str, Any]], bool],
        limit: float = TIME_LIMIT,
        pause: float = 0.02,
    ) -> dict[str, Any]:
        """The execution once it is so. ``pause``: between two looks, in seconds; short for what soon passes."""
        end = time.monotonic() + limit
        while not until(execution := self.get(execution)):
            self.trial.check()
            assert execution["status"] not in ENDED, f"{execution['status']}: {execution['error']}"
            assert time.monotonic() < end, f"still {execution['status']} {execution['stage']} after {limit} s"
            time.sleep(pause)
        return execution

    def running(self, body: dict[str, Any]) -> dict[str, Any]:
        """An execution that runs. A short one may have ended before it was looked at: then there is another one."""
        for _ in range(10):
            found = self.wait(self.submit(body), lambda e: e["status"] == "RUNNING" or e["status"] in ENDED)
            if found["status"] == "RUNNING":
                return found
            self.wait_until_idle()
        raise AssertionError(f"no execution was seen as it ran; the last: {found['status']}: {found['error']}")

    def end_of(self, execution: dict[str, Any]) -> dict[str, Any]:
        # Each look takes the site some 10 ms of a core, which the parties need
        return self.wait(execution, lambda e: e["status"] in ENDED, pause=0.2)

    def run(self, body: dict[str, Any]) -> dict[str, Any]:
        """The execution at its end, with everything let go of."""
        self.wait_until_idle()
        return self.end_of(self.submit(body))

    def wait_until_idle(self) -> None:
        """Until every worker is there, waits for a job, and has a compute process; starts what a test left down."""
        if "valkey" not in self.trial.processes:
            self.trial.start_valkey()
        for party in TWO:
            if f"worker-{party}" not in self.trial.processes:
                self.trial.start_worker(party)
        self.trial.wait_for_workers(*TWO, timeout=TIME_LIMIT)

    def worker_pids(self, party: str, *, and_waiting: bool = True) -> list[int]:
        """The worker process, and those of its children that compute or wait to."""
        worker = self.trial.processes[f"worker-{party}"].pid
        children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
        titles = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        return [
            worker,
            *(
                pid
                for pid, title in titles.items()
                if b": process of a job" in title or (and_waiting and b": process for a job" in title)
            ),
        ]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = DIRECTORY / "site"
    directory.mkdir()
    with Trial(directory, ("alice", "bob", "carol")) as trial:
        tables = write_tables(directory)
        carol = directory / "carol.csv"
        carol.write_text("uid,c\n" + "".join(f"patient-{i:04},{i}\n" for i in range(0, 569, 3)))
        duplicates, removed = directory / "duplicates.csv", directory / "removed.csv"
        duplicates.write_text("uid,x\n" + "patient-0001,1\npatient-0001,2\n" * 3)
        others = {"duplicates": duplicates, "removed": removed, "unlisted": removed}
        datasets = {p: {"breast_cancer": tables.get(p, carol)} | others for p in trial.parties}
        service = trial.start(datasets, workers={f"worker-{p}": p for p in TWO})
        parties = {p["name"]: p["id"] for p in service.call("GET", "/api/v1/parties/")["results"]}
        for party in TWO:
            for name in ("duplicates", "removed", "unregistered-there"):
                service.call(
                    "POST", "/api/v1/datasets/",
                    {"party": party, "name": name, "columns": {"uid": "str", "x": "int"}, "key_columns": ["uid"]},
                )  # fmt: skip
        assert set(parties) == set(trial.parties)
        for task in service.call("GET", "/api/v1/tasks/")["results"]:
            if task["name"] != "predict malignancy":  # whose devices are looked at, and which is broken into
                document = task["document"] | {"keep_devices_seconds": KEEP}
                service.call("PATCH", f"/api/v1/tasks/{task['id']}/", {"document": document})
        yield Site(trial, service, tables)
        assert trial.redis_denials() == [], "a party's user in Redis needs more, or a worker tried more"


@pytest.fixture(scope="module")
def joined(site: Site) -> dict[str, Any]:
    """The finished intersection, whose outputs are the input of the regression."""
    return site.run({"task": "intersect patients"})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def is_a_waiting_process(directory: Path) -> bool:
    if not directory.name.startswith("process-"):
        return False
    try:
        with (directory / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # removed in this moment
        pass
    return False


def leftovers(site: Site) -> list[str]:
    """Private directories of runs and trace files that stay: they hold intersection rows.

    A worker is idle before the process of its job has ended and what that left is removed; and a run beside this one,
    of another test, removes its own traces when it ends.
    """
    end = time.monotonic() + 20
    while (found := leftovers_now(site)) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def leftovers_now(site: Site) -> list[str]:
    work = [p for party in site.trial.parties for p in (site.trial.party_dir(party) / "outputs/.work").glob("*-*")]
    traces = [p for p in Path("/tmp").glob("psi_*.trace") if is_newer(p, site.trial.directory)]
    return [str(p) for p in (*work, *traces) if p.exists() and not is_a_waiting_process(p)]


def is_tried_again_or_over(execution: dict[str, Any]) -> bool:
    return execution["status"] in ENDED or any(change["to_status"] == "RETRY" for change in execution["changes"])


def is_newer(path: Path, directory: Path) -> bool:
    try:
        return path.stat().st_mtime > directory.stat().st_ctime
    except FileNotFoundError:  # removed in this moment
        return False


def test_it_intersects_two_tables(site: Site, joined: dict[str, Any]) -> None:
    expected = {r["uid"] for r in rows(site.tables["alice"])} & {r["uid"] for r in rows(site.tables["bob"])}

    assert joined["status"] == "SUCCESS", joined["error"]
    assert joined["result"]["intersection_count"] == {"alice": len(expected), "bob": len(expected)}
    kept = {p: rows(site.trial.party_dir(p) / "outputs/patients_in_common.csv") for p in TWO}
    assert [r["uid"] for r in kept["alice"]] == [r["uid"] for r in kept["bob"]]
    assert {r["uid"] for r in kept["alice"]} == expected
    assert "malignant" in kept["bob"][0]
    assert "malignant" not in kept["alice"][0]


def test_the_logs_of_both_parties_are_on_the_page_and_whole_at_each(site: Site, joined: dict[str, Any]) -> None:
    """A trial's parties let all of it out, with secrets and paths taken out."""
    end = time.monotonic() + 20
    said: dict[str, set[str]] = {}
    while not all(len(said.get(p, ())) > 40 for p in TWO):
        assert time.monotonic() < end, said
        found = site.service.call("GET", f"/api/v1/executions/{joined['id']}/logs/?page_size=50")["results"]
        said = {party: {line["text"] for line in found if line["party"] == party} for party in TWO}
        time.sleep(0.1)
    for party in TWO:
        assert "stage task_execution" in said[party]
        assert any(text.startswith("PSI config: ") for text in said[party])
        assert not any(str(site.trial.directory) in text for text in said[party])
        [log] = (site.trial.party_dir(party) / "outputs" / ".logs").glob(f"{joined['id']}-*.log")
        assert log.stat().st_mode & 0o777 == 0o600
        assert "PSI config: " in log.read_text()
        assert str(site.trial.directory) in log.read_text()


def sfcp(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line as it is installed."""
    env = os.environ | {"SFCP_URL": site.trial.url, "SFCP_TOKEN": site.trial.token, "COLUMNS": "200"}
    command = [str(Path(sys.executable).parent / "sfcp"), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    assert site.trial.token not in done.stdout + done.stderr
    return done


def test_the_command_line_runs_a_task_and_shows_what_it_found(site: Site, joined: dict[str, Any]) -> None:
    site.wait_until_idle()
    done = sfcp(site, "run", "intersect patients", "--label", "by:sfcp")
    assert done.returncode == 0, done.stderr
    pk = done.stdout.strip()
    assert f"{joined['name']}  SUCCESS after" in done.stderr
    found = site.service.get(pk)
    assert (found.labels, found.result) == ({"by": "sfcp"}, joined["result"])
    assert json.loads(sfcp(site, "result", pk, "--json").stdout) == found.result
    assert (
        f"intersection_count.alice,{found.result['intersection_count']['alice']}"
        in sfcp(site, "result", pk, "--csv").stdout.splitlines()
    )
    listed = json.loads(sfcp(site, "list", "--label", "by:sfcp", "--json").stdout)
    assert [row["id"] for row in listed] == [pk]
    end = time.monotonic() + 20
    while "stage task_execution" not in (logs := sfcp(site, "logs", pk, "--party", "alice").stdout):
        assert time.monotonic() < end, logs
    watched = sfcp(site, "watch", pk)
    assert (watched.returncode, watched.stdout.splitlines()[-1].split()[1]) == (0, "SUCCESS")


def test_the_guide_s_walk_by_curl_ends_with_a_table(site: Site, joined: dict[str, Any], tmp_path: Path) -> None:
    site.wait_until_idle()
    said = by_curl(site.trial, tmp_path)
    rows = joined["result"]["intersection_count"]["alice"]
    assert '{"status":"SUCCESS","error":null}' in said
    assert f"alice,{joined['result']['original_count']['alice']},{rows},{rows}" in said
    figures = {name: value for name, value in joined["result"].items() if name != "outputs"}
    assert json.loads((tmp_path / "result.json").read_text())["result"] == figures


def test_the_guide_s_receiver_is_told_and_checks_who_says_so(
    site: Site, joined: dict[str, Any], tmp_path: Path
) -> None:
    site.wait_until_idle()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    hook = {"name": "the guide's", "url": f"http://127.0.0.1:{port}/", "labels": {"by": "guide"}}
    made = site.service.call("POST", "webhooks/", hook)
    with receiver(made["secret"], port, tmp_path) as printed:
        done = site.service.submit("intersect patients", labels={"by": "guide"})
        site.service.wait(done, TIME_LIMIT)
        until = time.monotonic() + 30
        while "SUCCESS" not in printed.read_text():
            assert time.monotonic() < until, printed.read_text()
            time.sleep(0.1)
    told = [line.split() for line in printed.read_text().splitlines() if line.startswith("execution.")]
    assert [kind for kind, *_ in told] == [f"execution.{s}" for s in ("queued", "dispatched", "running", "success")]
    assert {pk for _, pk, _ in told} == {str(done.id)}
    site.service.call("DELETE", f"webhooks/{made['id']}/")


def test_the_command_line_tells_the_cause_of_a_failure(site: Site) -> None:
    site.wait_until_idle()
    changes = json.dumps({"task_config": {"data_sources": {"bob": "removed"}}})
    done = sfcp(site, "run", "intersect patients", "--override", changes)
    assert done.returncode == 1, done.stderr
    assert "FAILURE" in done.stderr
    assert re.search("cause: bob.*the file of dataset removed is missing", done.stderr)


def test_a_client_is_told_everything_although_the_web_server_restarts(site: Site) -> None:
    site.wait_until_idle()
    with Client(site.trial.url, site.trial.token) as client:
        made = client.submit("intersect patients")
        told = []
        for one in client.events(made):
            told.append(one)
            if len(told) == 2:
                site.trial.stop_process("web")
                site.trial.start_web()
        assert isinstance(told[-1], StateTold)
        assert told[-1].status == "SUCCESS"
        changes = [change.to_status for change in client.get(made).changes]
        assert [one.status for one in told if isinstance(one, StateTold)] == changes
        reported = {(e.party, e.sequence) for e in client.reported(made)}
        heard = [(one.party, one.sequence) for one in told if isinstance(one, EventTold)]
        assert len(heard) == len(set(heard))
        # What parties report after the end is told to nobody who waits for the end
        assert set(heard) <= reported
        assert {party for party, _ in heard} == set(TWO)


def test_a_pipeline_goes_from_tables_to_an_evaluated_model_and_repeats_nothing_in_a_retry(site: Site) -> None:
    call = site.service.call

    def ended(run: dict[str, Any]) -> dict[str, Any]:
        """Its nodes by name, once it has ended."""
        until = time.monotonic() + TIME_LIMIT
        while (found := call("GET", f"/api/v1/pipeline-runs/{run['id']}/"))["status"] == "RUNNING":
            assert time.monotonic() < until, found
            time.sleep(0.2)
        return {"status": found["status"]} | {node["name"]: node for node in found["nodes"]}

    # beside the demo's own nodes one whose table comes too late
    psi = psi_documents(data_sources={"alice": "breast_cancer", "bob": "removed"}, outputs={"alice": "late"})
    psi["task_config"]["algorithm_params"]["psi_params"]["receivers"] = ["alice"]
    late = {"name": "late", "cluster": "alice and bob", "spu": "SEMI2K 128 bit", "document": psi["task_config"]}
    call("POST", "/api/v1/tasks/", late)
    [demo] = call("GET", "/api/v1/pipelines/")["results"]
    nodes = demo["nodes"] | {"late": {"task": "late", "after": ["intersect"]}}
    call("POST", "/api/v1/pipelines/", {"name": "with a late table", "nodes": nodes})
    run = call("POST", "/api/v1/pipeline-runs/", {"pipeline": "with a late table"})
    first = ended(run)
    assert first["status"] == "FAILURE"
    assert "the file of dataset removed is missing" in first["late"]["why"]
    assert {node: first[node]["state"] for node in demo["nodes"]} == dict.fromkeys(demo["nodes"], "SUCCESS"), first
    [report] = call("GET", first["evaluate"]["execution_url"])["result"]["reports"]["report"][:1]
    assert report["values"]["auc"] > 0.9

    table = site.trial.directory / "removed.csv"
    table.write_text("uid,x\npatient-0001,1\npatient-0002,2\n")
    try:
        call("POST", f"/api/v1/pipeline-runs/{run['id']}/retry/", {})
        second = ended(run)
    finally:
        table.unlink()
    assert second["status"] == "SUCCESS", second
    assert [second[node] for node in demo["nodes"]] == [first[node] for node in demo["nodes"]], "something was repeated"
    assert second["late"]["earlier"] == [first["late"]["execution"]]


def test_it_gives_the_intersection_to_one_receiver_alone(site: Site) -> None:
    psi = psi_documents(outputs={"bob": "bobs-alone"}, keep_devices_seconds=KEEP)
    psi["task_config"]["algorithm_params"]["psi_params"]["receivers"] = ["bob"]
    done = site.run(psi)
    assert done["status"] == "SUCCESS", done["error"]
    assert set(done["result"]["intersection_count"]) == {"bob"}
    assert (site.trial.party_dir("bob") / "outputs/bobs-alone.csv").exists()
    assert not (site.trial.party_dir("alice") / "outputs/bobs-alone.csv").exists()


@pytest.mark.parametrize(
    ("protocol", "params", "how", "bob"),
    [
        ("RR22", {"join_type": "left_join", "left_side": "bob"}, "right", "breast_cancer"),
        ("KKRT", {"join_type": "full_join", "duplicate_keys": ["bob"]}, "outer", "duplicates"),
        ("ECDH", {"join_type": "difference"}, "difference", "breast_cancer"),
    ],
)
def test_it_joins_as_a_database_does(site: Site, protocol: str, params: dict[str, Any], how: str, bob: str) -> None:
    import pandas as pd

    joined = f"{how}-joined"
    psi = psi_documents(
        data_sources={"alice": "breast_cancer", "bob": bob}, outputs=dict.fromkeys(TWO, joined),
        keep_devices_seconds=KEEP,
    )  # fmt: skip
    psi["task_config"]["algorithm_params"]["psi_params"] |= params | {"protocol": f"PROTOCOL_{protocol}"}
    done = site.run(psi)
    assert done["status"] == "SUCCESS", done["error"]

    bobs = site.trial.directory / "duplicates.csv" if bob == "duplicates" else site.tables["bob"]
    left, right = (pd.read_csv(path, dtype=str) for path in (site.tables["alice"], bobs))
    right = right.rename(columns={"uid": "their"})
    clear = left.merge(right, left_on="uid", right_on="their", how="outer" if how == "difference" else how)
    if how == "difference":
        clear = clear[clear.uid.isna() | clear.their.isna()]
    expected = sorted(clear[["uid", "their"]].fillna("").itertuples(index=False, name=None))
    alice, bobs_kept = (
        pd.read_csv(site.trial.party_dir(p) / f"outputs/{joined}.csv", dtype=str, keep_default_na=False) for p in TWO
    )
    assert sorted(zip(alice.uid, bobs_kept.uid, strict=True)) == expected
    assert done["result"]["output_rows"] == dict.fromkeys(TWO, len(expected))
    rows = alice.merge(left, how="left", on="uid", suffixes=("", "_whole"))
    there = rows[rows.uid != ""]
    assert (there.mean_radius == there.mean_radius_whole).all(), "each key with its own row"
    assert (rows[rows.uid == ""].mean_radius == "").all()


def test_it_trains_a_model_on_the_intersection(site: Site, joined: dict[str, Any]) -> None:
    lr = site.run({"task": "predict malignancy"})

    assert lr["status"] == "SUCCESS", lr["error"]
    _, clear = clear_auc(site.tables["alice"], site.tables["bob"])
    assert lr["result"]["metrics"]["auc"] == pytest.approx(clear, abs=0.02)
    predictions = rows(site.trial.party_dir("bob") / "outputs/malignancy_predictions.csv")
    assert len(predictions) == joined["result"]["intersection_count"]["bob"]
    assert not (site.trial.party_dir("alice") / "outputs/malignancy_predictions.csv").exists()

    site.wait_until_idle()
    events = site.service.call("GET", f"/api/v1/executions/{lr['id']}/events/")["results"]
    for party in TWO:
        stages = [e["stage"] for e in events if e["party"] == party]
        assert list(dict.fromkeys(stages)) == [
            "task_started", "sf_init", "sf_cluster_ready", "spu_init", "devices_ready", "task_execution", "cleanup",
        ]  # fmt: skip
    assert [c["to_status"] for c in lr["changes"]] == ["QUEUED", "DISPATCHED", "RUNNING", "SUCCESS"]
    site.wait_until_idle()
    assert leftovers(site) == []


def test_it_adds_up_under_encryption_and_without_an_spu(site: Site, joined: dict[str, Any]) -> None:
    columns = {"alice": "mean_area", "bob": "worst_smoothness"}
    body = psi_documents(
        task_type="he_sum",
        data_sources=dict.fromkeys(TWO, "patients_in_common"),
        outputs={"bob": "sums"},
        algorithm_params={"he_sum_params": {"columns": columns, "name": "both"}},
    ) | {
        "spu_config": {"enable_spu": False},
        "heu_config": {"sk_keeper": "bob", "he_parameters": {"schema": "ou"}},
    }
    done = site.run(body)
    assert done["status"] == "SUCCESS", done["error"]
    assert [run["devices"] for run in done["runs"]] == [["heu"], ["heu"]]
    parts = [rows(site.trial.party_dir(p) / "outputs/patients_in_common.csv") for p in TWO]
    expected = [float(a[columns["alice"]]) + float(b[columns["bob"]]) for a, b in zip(*parts, strict=True)]
    sums = [float(r["both"]) for r in rows(site.trial.party_dir("bob") / "outputs/sums.csv")]
    assert sums == pytest.approx(expected, abs=1e-4)
    assert not (site.trial.party_dir("alice") / "outputs/sums.csv").exists()


@pytest.mark.parametrize("tls", [None, {}])  # brpc over TLS: tests.workers.devices.test_live_devices
def test_it_runs_over_grpc(site: Site, tls: Any) -> None:
    cluster = {"parties": ["bob", "alice"], "cross_silo_comm_backend": "grpc", "tls_config": tls}
    spu = {"runtime_config": {"protocol": "CHEETAH", "field": "FM64"}}
    done = site.run(psi_documents() | {"sf_init_config": cluster, "spu_config": spu})
    assert done["status"] == "SUCCESS", done["error"]


@pytest.mark.parametrize(
    ("task", "party", "error_type", "words"),
    [
        ({"data_sources": {"alice": "breast_cancer", "bob": "removed"}}, "bob", "ConfigError",
         "the file of dataset removed is missing on this host"),
        ({"data_sources": {"alice": "unregistered-there", "bob": "breast_cancer"}}, "alice", "ConfigError",
         "alice has no dataset 'unregistered-there'"),
        ({"data_sources": {"alice": "breast_cancer", "bob": "duplicates"}}, "bob", "ConfigError",
         "of another row"),
        ({"outputs": {"alice": "unlisted", "bob": "x"}}, "alice", "ConfigError", "is a dataset that alice registered"),
    ],
)  # fmt: skip
def test_it_names_the_party_and_the_cause_within_seconds(
    site: Site, task: dict[str, Any], party: str, error_type: str, words: str
) -> None:
    failed = site.run(psi_documents(**task))
    assert failed["status"] == "FAILURE"
    assert (failed["error"]["party"], failed["error"]["type"]) == (party, error_type)
    assert words in failed["error"]["message"]
    assert str(site.trial.directory) not in json.dumps(failed), "a path left the party"
    # stopped by the coordinator, not by waiting out a time limit
    assert "did not come to the meeting" not in json.dumps(failed)
    assert (failed["attempt"], failed["runs"], failed["error"]["stage"]) == (0, [], "preflight"), "nobody started"
    site.wait_until_idle()
    assert leftovers(site) == []


def test_it_names_a_column_that_the_file_does_not_have(site: Site) -> None:
    # registered with the column, so that only the party can find out
    site.service.call(
        "POST", "/api/v1/datasets/",
        {"party": "bob", "name": "patients_in_common_2", "columns": {"uid": "str"}, "key_columns": []},
    )  # fmt: skip
    outputs = site.trial.party_dir("bob") / "outputs"
    outputs.mkdir(exist_ok=True)
    (outputs / "patients_in_common_2.csv").write_text("user_id,x\na,1\n")
    failed = site.run(psi_documents(data_sources={"alice": "breast_cancer", "bob": "patients_in_common_2"}))
    assert (failed["error"]["party"], failed["error"]["stage"]) == ("bob", "preflight")
    assert "column 'uid' is gone" in failed["error"]["message"]


def test_it_fails_fast_and_says_so_when_a_process_is_killed_and_retries(site: Site) -> None:
    for _ in range(5):
        site.wait_until_idle()
        execution = site.running(psi_documents())
        for pid in site.worker_pids("bob")[1:]:
            os.kill(pid, signal.SIGKILL)
        killed = site.wait(execution, lambda e: e["status"] in {"RETRY", *ENDED})
        if killed["status"] != "SUCCESS":  # else the run was over before it could be killed
            break
    else:
        pytest.fail("five runs were over before they could be killed")
    retry = next(c for c in site.get(execution)["changes"] if c["to_status"] == "RETRY")
    assert "bob" in retry["why"]
    assert "killed (signal 9" in retry["why"]
    done = site.end_of(execution)
    assert (done["status"], done["attempt"]) == ("SUCCESS", 2), (done["error"], site.get(execution)["changes"])


def test_it_finds_a_worker_that_was_killed_and_leaves_nothing_computing(site: Site, joined: dict[str, Any]) -> None:
    site.wait_until_idle()
    execution = site.submit({"task": "predict malignancy"})
    site.wait(execution, lambda e: e["status"] == "RUNNING")
    processes = site.worker_pids("bob")
    site.trial.stop_process("worker-bob", signal.SIGKILL)
    site.trial.start_worker("bob", "worker-bob")
    # 8 s for its heartbeat to run out and 4 s of grace; not the 30 s after which alice gives up waiting for bob
    site.wait(execution, is_tried_again_or_over, 25, pause=0.2)
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)
    retry = next(c for c in site.get(execution)["changes"] if c["to_status"] == "RETRY")
    assert "worker of bob" in retry["why"]  # gone with its job, or before it began it
    done = site.end_of(execution)
    assert (done["status"], done["attempt"]) == ("SUCCESS", 2), (done["error"], site.get(execution)["changes"])
    site.wait_until_idle()
    assert leftovers(site) == []


def test_no_process_computes_on_when_its_worker_hangs(site: Site, joined: dict[str, Any]) -> None:
    site.wait_until_idle()
    execution = site.submit({"task": "predict malignancy"})
    site.wait(execution, lambda e: e["stage"] == "task_execution")
    worker, *children = site.worker_pids("bob")
    # alice's process too, so that no broken link ends bob's before its time
    for pid in site.worker_pids("alice", and_waiting=False)[1:]:
        os.kill(pid, signal.SIGSTOP)
    os.kill(worker, signal.SIGSTOP)
    try:
        site.wait(execution, is_tried_again_or_over, 60, pause=0.2)
        states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in children]
        assert "Z" in states, "the computing process ended itself; its worker cannot even notice"
    finally:
        os.kill(worker, signal.SIGCONT)
    done = site.end_of(execution)
    assert (done["status"], done["attempt"]) == ("SUCCESS", 2), (done["error"], site.get(execution)["changes"])
    retry = next(c for c in done["changes"] if c["to_status"] == "RETRY")
    assert "the worker of bob is gone" in retry["why"]


def test_it_stops_a_run_at_its_time_limit_whatever_its_process_is_doing(site: Site, joined: dict[str, Any]) -> None:
    site.wait_until_idle()
    for limit in (6, 30):  # on a busy machine it does not get as far within the first
        execution = site.submit({"task": "predict malignancy", "run_limit_seconds": limit})
        execution = site.wait(execution, lambda e: e["stage"] == "task_execution" or e["status"] in ENDED)
        if execution["status"] not in ENDED:
            break
    end = time.monotonic() + 5
    while len(processes := site.worker_pids("bob")[1:]) < 2:
        assert time.monotonic() < end, "the next job has to wait for its process until this one has ended"
        time.sleep(0.05)
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)  # as in native code that never returns
    failed = site.end_of(execution)
    assert (failed["status"], failed["attempt"]) == ("FAILURE", 1)
    assert failed["error"]["message"] == f"the run passed its time limit of {limit} s"
    site.wait_until_idle()
    assert leftovers(site) == []


def test_it_stops_a_cancelled_run_at_all_parties(site: Site, joined: dict[str, Any]) -> None:
    site.wait_until_idle()
    lr = site.submit({"task": "predict malignancy"})
    site.wait(lr, lambda e: e["status"] == "RUNNING")
    site.service.call("POST", f"/api/v1/executions/{lr['id']}/cancel/")
    done = site.end_of(lr)
    assert done["status"] == "CANCELLED"
    site.wait_until_idle()
    assert leftovers(site) == []


def test_it_ends_an_execution_whose_party_has_no_worker(site: Site) -> None:
    site.wait_until_idle()
    site.trial.stop_process("worker-bob")
    execution = site.submit(psi_documents())
    reason = "bob has no live worker; start `manage.py rqworker bob`"
    site.wait(execution, lambda e: reason in e["waiting_for"] or e["status"] in ENDED, pause=0.1)
    failed = site.end_of(execution)
    assert (failed["status"], failed["error"]["party"], failed["error"]["type"]) == ("FAILURE", "bob", "ResourceError")
    assert reason in failed["error"]["message"]
    site.trial.start_worker("bob")
    site.trial.wait_for_workers(*TWO)


def test_it_says_that_redis_is_away_and_goes_on_when_it_is_back(site: Site) -> None:
    site.wait_until_idle()
    site.trial.stop_process("valkey")
    execution = site.submit(psi_documents())
    waiting = site.wait(execution, lambda e: bool(e["waiting_for"]))
    assert "Redis is not reachable" in waiting["waiting_for"]
    site.trial.start_valkey()
    done = site.end_of(execution)
    assert done["status"] == "SUCCESS", done["error"]


def test_it_loses_nothing_when_redis_is_away_at_the_end(site: Site, joined: dict[str, Any]) -> None:
    site.wait_until_idle()
    execution = site.submit({"task": "predict malignancy"})
    site.wait(execution, lambda e: e["stage"] == "task_execution")
    site.trial.stop_process("valkey")
    waiting = site.wait(execution, lambda e: bool(e["waiting_for"]))
    assert waiting["status"] == "RUNNING"
    assert "Redis is not reachable" in waiting["waiting_for"]
    spools = [site.trial.party_dir(p) / f"outputs/.journal/{execution['id']}-1.jsonl" for p in TWO]
    end = time.monotonic() + TIME_LIMIT
    while not all(spool.exists() and '"stage":"cleanup"' in spool.read_text() for spool in spools):
        assert time.monotonic() < end, "the parties did not end their work"
        time.sleep(0.05)
    site.trial.start_valkey()
    done = site.end_of(execution)
    assert (done["status"], done["attempt"], done["waiting_for"]) == ("SUCCESS", 1, ""), done["error"]


def test_it_survives_a_redis_that_comes_back_empty(site: Site, joined: dict[str, Any]) -> None:
    site.wait_until_idle()
    execution = site.running(psi_documents())
    site.trial.stop_process("valkey", signal.SIGKILL)
    shutil.rmtree(site.trial.directory / "valkey")
    site.trial.start_valkey()
    done = site.end_of(execution)
    assert done["status"] == "SUCCESS", done["error"]
    assert done["result"] == joined["result"] | {"outputs": {party: ["common"] for party in TWO}}

    def lost() -> dict[str, list[int]]:
        events = site.service.call("GET", f"/api/v1/executions/{execution['id']}/events/?page_size=500")["results"]
        # They are listed as they arrived, and those that are told again arrive late
        # A worker may end a process whose job is gone from Redis though it is done, and say so
        own = [e for e in events if e["attempt"] == done["attempt"] and e["sequence"] < WORKER_SEQUENCE]
        told = {p: sorted(e["sequence"] for e in own if e["party"] == p) for p in TWO}
        return {p: found for p, found in told.items() if not are_complete(found)}

    # A worker may notice after the end only, at its next sign of life, that what it told was gone
    end = time.monotonic() + 15
    while events := lost():
        assert time.monotonic() < end, f"an event is lost: {events}"
        time.sleep(0.2)


def test_it_says_that_a_partys_own_file_is_wrong(site: Site) -> None:
    path = site.trial.party_dir("bob") / "party.toml"
    right = path.read_text()
    path.write_text(right + "nonsense\n")
    try:
        failed = site.run(psi_documents())
    finally:
        path.write_text(right)
    assert (failed["status"], failed["attempt"]) == ("FAILURE", 0)
    assert (failed["error"]["party"], failed["error"]["type"]) == ("bob", "ConfigError")
    assert failed["error"]["message"] == "party.toml of bob cannot be used; see its worker's log"
    assert str(site.trial.directory) not in json.dumps(failed), "a path left the party"


def test_it_intersects_the_tables_of_three_parties(site: Site) -> None:
    dataset = {"party": "carol", "name": "breast_cancer", "columns": {"uid": "str"}}
    site.service.call("POST", "/api/v1/datasets/", dataset)
    site.trial.start_worker("carol")
    site.trial.wait_for_workers("carol")
    names = ["alice", "bob", "carol"]
    psi_params = {"input_keys": {p: ["uid"] for p in names}, "receivers": names, "protocol": "PROTOCOL_ECDH_3PC"}
    body = psi_documents(
        data_sources=dict.fromkeys(names, "breast_cancer"),
        outputs=dict.fromkeys(names, "of-three"),
        algorithm_params={"psi_params": psi_params},
    ) | {"sf_init_config": {"parties": names}, "spu_config": {"runtime_config": {"protocol": "ABY3"}}}
    done = site.run(body)
    site.trial.stop_process("worker-carol")
    assert done["status"] == "SUCCESS", done["error"]
    tables = [site.tables["alice"], site.tables["bob"], site.trial.directory / "carol.csv"]
    expected = set.intersection(*({r["uid"] for r in rows(table)} for table in tables))
    assert set(done["result"]["intersection_count"].values()) == {len(expected)}
    for party in names:
        kept = rows(site.trial.party_dir(party) / "outputs/of-three.csv")
        assert {r["uid"] for r in kept} == expected


def party_command(site: Site, party: str, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    """As a person on the party's host."""
    env = os.environ | site.trial.party_env(party)
    return subprocess.run(
        [sys.executable, "manage.py", "party", *arguments], cwd=ROOT, env=env, input=answer, text=True, timeout=60,
        capture_output=True, check=False,
    )  # fmt: skip


def test_what_a_party_wants_to_approve_waits_for_people_on_its_host(site: Site) -> None:
    path = site.trial.party_dir("bob") / "party.toml"
    right = path.read_text()
    path.write_text(right.replace("[policy]", '[policy]\napprove = "ask"'))
    try:
        site.wait_until_idle()
        body = psi_documents(outputs={"alice": "approved", "bob": "approved"})
        first, second = (site.submit(body) for _ in range(2))
        waiting = site.wait(first, lambda e: e["status"] == "AWAITING_APPROVAL")
        name = waiting["waiting_for"].partition("party approve ")[2].partition("`")[0]
        assert waiting["waiting_for"].startswith("bob has to approve it")
        listed = party_command(site, "bob", "approvals").stdout
        assert name in listed
        assert "psi" in listed
        assert "alice, bob" in listed
        assert json.loads(party_command(site, "bob", "approvals", name).stdout)["task_config"]["outputs"] == {
            "alice": "approved", "bob": "approved",
        }  # fmt: skip
        assert party_command(site, "alice", "approve", name, "--yes").returncode == 1, "it was not asked of alice"
        assert "Nothing was approved" in party_command(site, "bob", "approve", name, answer="n\n").stderr
        assert site.get(first)["status"] == "AWAITING_APPROVAL"
        site.wait(second, lambda e: e["status"] == "AWAITING_APPROVAL")
        done = party_command(site, "bob", "approve", name, "--by", "ann", answer="y\n")
        assert "the control plane was told: noted" in done.stdout, done.stderr
        ended = site.wait(first, lambda e: e["status"] in ENDED or site.get(second)["status"] in ENDED)
        ended, other = (ended, second) if ended["status"] in ENDED else (site.get(second), first)
        assert ended["status"] == "SUCCESS", ended["error"]
        site.wait(other, lambda e: e["status"] == "AWAITING_APPROVAL")
        refused = party_command(site, "bob", "refuse", name, "--reason", "once is enough")
        assert "noted" in refused.stdout, refused.stderr
        failed = site.end_of(other)
        assert (failed["status"], failed["error"]["party"]) == ("FAILURE", "bob")
        assert failed["error"]["message"] == "bob refused to approve it: once is enough"
    finally:
        path.write_text(right)


def test_own_tables_are_added_as_the_readme_says(site: Site) -> None:
    """Last, as they stay."""
    site.wait_until_idle()
    text = (ROOT / "README.md").read_text().partition("To try your own tables")[2].partition("```\n")[0]
    lines = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    assert lines[0].startswith("DIR=/tmp/secretflow-demo-...")
    table = site.trial.directory / "customers.csv"
    table.write_text("uid,age\n1,30\n2,40\n")
    script = "\n".join(["set -e", f"DIR={site.trial.directory}", *lines[1:]])
    script = script.replace("/home/me/customers.csv", str(table)).replace(".venv/bin/python", sys.executable)
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60
    )
    # Tables of this site are missing on purpose, which the command says of each
    [found] = site.service.call("GET", "/api/v1/datasets/?name=customers")["results"] or [done.stderr]
    assert found["columns"] == {"uid": "int", "age": "int"}
