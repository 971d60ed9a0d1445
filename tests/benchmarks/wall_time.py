"""From POST to SUCCESS, over the same by hand in two processes: PSI of several sizes and for any number of parties, and
SS-LR; with peak memory."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from secretflow_controlplane_client import Client

from executions.states import ENDED
from executions.trial.stack import Trial
from fixtures.documents import psi_documents
from tests.benchmarks.memory import PeakMemory
from workers.contract.registry import stages as stages_of_a_run
from workers.host.party import PartyHost
from workers.host.workdirs import remove_traces
from workers.runtime.starter import START_TIMEOUT, Starter

LIMIT = 600.0
#: The slowest run of the bare script over the fastest, from which on the machine was too busy for any figure.
SPREAD = 1.5
IMPORTS = 3


@dataclass(frozen=True, slots=True)
class Work:
    """One task, and the same as ``bare.py`` does it."""

    title: str
    #: What bare.py is told.
    script: str
    table: str
    rows: int
    #: Writes a table: party, path, rows.
    write: Callable[[str, Path, int], None]
    #: The documents, for a table's name.
    body: Callable[[str], dict[str, Any]]
    #: The figure of an execution's result that the script prints.
    figure: Callable[[dict[str, Any]], float]
    aim: str
    runs: int
    columns: dict[str, dict[str, str]]
    #: Whether the parties' tables have the same rows in the same order.
    lines_up: bool = False


def _write_keys(party: str, path: Path, rows: int) -> None:
    """Half of the rows are both parties'."""
    first = 0 if party == "alice" else rows // 2
    with path.open("w") as file:
        file.write("uid,a,b,c\n")
        file.writelines(f"key-{i},{i * 7 % 1000},{i * 13 % 997},{i % 1009}\n" for i in range(first, first + rows))


FEATURES = 10


def _write_features(party: str, path: Path, rows: int) -> None:
    values = np.random.default_rng(1).normal(size=(rows, 2 * FEATURES))
    label = (values.sum(axis=1) + np.random.default_rng(2).normal(size=rows) > 0).astype(float)
    mine = values[:, :FEATURES] if party == "alice" else np.column_stack([values[:, FEATURES:], label])
    heading = [f"x{i}" for i in range(FEATURES)] + (["label"] if party == "bob" else [])
    np.savetxt(path, mine, fmt="%.6g", delimiter=",", header=",".join(heading), comments="")


def _lr_documents(table: str) -> dict[str, Any]:
    features = [f"x{i}" for i in range(FEATURES)]
    ml_params = {
        "features": {"alice": features, "bob": features},
        "label": {"party": "bob", "column": "label"},
        "training_params": {"epochs": 3, "learning_rate": 0.3, "batch_size": 1024},
    }
    return psi_documents(
        table, task_type="lr", outputs={"bob": "predictions"}, algorithm_params={"ml_params": ml_params}
    )


def _psi(rows: int, runs: int, aim: str, protocol: str = "PROTOCOL_RR22") -> Work:
    def documents(table: str) -> dict[str, Any]:
        body = psi_documents(table)
        body["task_config"]["algorithm_params"]["psi_params"]["protocol"] = protocol
        return body

    title = f"PSI, {rows:,} rows a side, {protocol.removeprefix('PROTOCOL_')}"
    return Work(
        title, protocol, f"keys_{rows}_{protocol.lower()}", rows, _write_keys, documents,
        lambda result: float(result["intersection_count"]["alice"]), aim, runs,
        {party: {"uid": "str", "a": "int", "b": "int", "c": "int"} for party in ("alice", "bob")},
    )  # fmt: skip


def _lr(rows: int, runs: int) -> Work:
    features = {f"x{i}": "float" for i in range(FEATURES)}
    return Work(
        f"SS-LR, {rows:,} rows, {2 * FEATURES} features, 3 epochs", "lr", "features", rows, _write_features,
        _lr_documents, lambda result: float(result["metrics"]["auc"]), "1.00", runs,
        {"alice": features, "bob": features | {"label": "float"}}, lines_up=True,
    )  # fmt: skip


SHORT = _psi(10_000, 5, "0.15")
#: By the fastest of the protocols for any number of parties.
MANY = _psi(1_000_000, 3, "1.10", "PROTOCOL_KKRT_NPC")
LARGE = _psi(10_000_000, 1, "1.02")
WORKS = (SHORT, _psi(100_000, 3, "1.00"), _psi(1_000_000, 3, "1.00"), LARGE, MANY, _lr(100_000, 3))


def by_hand(work: Work, directory: Path, port: int, expected: float) -> tuple[float, float]:
    """Seconds from the start of both scripts to the end of the later one, and MB of the larger one."""
    started = time.perf_counter()
    both = [
        subprocess.Popen(
            [sys.executable, Path(__file__).with_name("bare.py"), work.script, party, str(port), directory, work.table],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=directory,
        )
        for party in ("alice", "bob")
    ]
    with PeakMemory(process.pid for process in both) as peak:
        said = [process.communicate(timeout=LIMIT)[0].decode(errors="replace").split() for process in both]
    seconds = time.perf_counter() - started
    for words in said:
        assert "bare-result" in words, "the bare script failed"
        found = float(words[words.index("bare-result") + 1])
        assert abs(found - expected) < 0.005, f"by hand {found}, through the control plane {expected}"
    return seconds, peak.mb


def through_control_plane(trial: Trial, service: Client, body: dict[str, Any]) -> tuple[float, float, dict[str, Any]]:
    """Seconds from before the POST until a client is told SUCCESS, and MB of the larger party.

    It asks every 10 ms, later every 2 % of the time so far.
    """
    trial.wait_for_workers()  # one job following the other at once would wait for SecretFlow's import
    with PeakMemory(trial.processes[f"worker-{party}"].pid for party in trial.parties) as peak:
        started = time.perf_counter()
        execution = service.call("POST", "executions/", body)
        while execution["status"] not in ENDED:
            assert time.perf_counter() - started < LIMIT, "it does not end"
            # Each question takes the site some milliseconds of the two cores
            time.sleep(max(0.01, (time.perf_counter() - started) / 50))
            execution = service.call("GET", f"executions/{execution['id']}/")
        seconds = time.perf_counter() - started
    assert execution["status"] == "SUCCESS", execution["error"]
    return seconds, peak.mb, execution


def seconds_to_import(trial: Trial) -> float:
    """What a job would wait for if no process had imported SecretFlow before it came."""
    host = PartyHost.load(trial.party_dir("alice") / "party.toml")
    started = time.perf_counter()
    starter = Starter("benchmark", trial.redis_url, host)
    waiting = starter.start()
    assert waiting.is_ready(START_TIMEOUT)
    seconds = time.perf_counter() - started
    waiting.close()
    starter.close()
    return seconds


def stages(service: Client, execution: dict[str, Any]) -> dict[str, float]:
    """Seconds by stage: the slowest party's, and what came before and after the parties."""
    events = service.call("GET", f"/api/v1/executions/{execution['id']}/events/?page_size=500")["results"]
    first: dict[str, dict[str, float]] = {}
    end = 0.0
    for event in events:
        at = datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp()
        if event["stage"] != "cleanup":
            party = first.setdefault(event["party"], {})
            party[event["stage"]] = min(at, party.get(event["stage"], at))
            end = max(end, at)
    created = datetime.fromisoformat(execution["created_at"].replace("Z", "+00:00")).timestamp()
    found = {"submit, dispatch, start": min(min(p.values()) for p in first.values()) - created}
    reached = [s for s in stages_of_a_run() if any(s in p for p in first.values())]
    for stage, following in zip(reached, [*reached[1:], ""], strict=True):
        found[stage] = max((p.get(following, end) - p[stage] for p in first.values() if stage in p), default=0)
    return found


def doubt(bare: list[float]) -> str:
    """Return what to say where the bare script's times are so far apart that no ratio can be believed."""
    if max(bare) < SPREAD * min(bare):
        return ""
    return f"[bold red]Not to be believed: the script by hand took {min(bare):.2f} to {max(bare):.2f} s.[/]\n"


def measure(console: Console, trial: Trial, service: Client, work: Work, port: int) -> list[dict[str, float]]:
    """Print one work's figures; returns the stages of each of our runs."""
    for party, columns in work.columns.items():
        service.call("POST", "/api/v1/datasets/", {"party": party, "name": work.table, "columns": columns})
    ours: list[tuple[float, float, dict[str, Any]]] = []
    bare: list[tuple[float, float]] = []
    for _ in range(work.runs):  # in turn: these machines are slower at some times than at others
        ours.append(through_control_plane(trial, service, work.body(work.table)))
        trial.wait_for_workers()  # nothing imports beside the scripts
        expected = work.figure(ours[0][2]["result"])
        bare.append(by_hand(work, trial.directory, port + 4 * len(bare), expected))
    spent = [stages(service, execution) for _, _, execution in ours]
    table = Table(title=f"{work.title}, two parties", title_justify="left")
    for heading in ("", "median s", "min - max", "peak MB of a party"):
        table.add_column(heading, justify="right" if heading else "left")
    control, hand = [run[0] for run in ours], [run[0] for run in bare]
    for name, walls, megabytes in (
        ("POST to SUCCESS", control, [run[1] for run in ours]),
        ("by hand, cold start", hand, [run[1] for run in bare]),
    ):
        row = (f"{statistics.median(walls):.3f}", f"{min(walls):.3f} - {max(walls):.3f}", f"{max(megabytes):.0f}")
        table.add_row(name, *row, style="bold")
        for stage in spent[0] if walls is control else ():
            values = [s[stage] for s in spent]
            table.add_row(f"  {stage}", f"{statistics.median(values):.3f}", f"{min(values):.3f} - {max(values):.3f}")
    console.print(table)
    ratio = statistics.median(control) / statistics.median(hand)
    console.print(f"{work.title}: ratio (control plane / by hand): [bold]{ratio:.3f}[/]   (aim: {work.aim} or less)")
    console.print(doubt(hand))
    return spent


def main(console: Console, works: tuple[Work, ...] = WORKS) -> None:
    directory, started = Path(tempfile.mkdtemp(prefix="cp-bench-", dir="/tmp")), time.time()
    try:
        with Trial(directory) as trial:
            tables: dict[str, dict[str, Path]] = {party: {} for party in trial.parties}
            for party in trial.parties:
                (directory / party).mkdir()
                for work in works:
                    tables[party][work.table] = directory / party / f"{work.table}.csv"
                    work.write(party, tables[party][work.table], work.rows)
            service = trial.start(tables)
            for toml in (trial.party_dir(party) / "party.toml" for party in trial.parties):
                text = toml.read_text()
                for heading in (f'[datasets."{work.table}"]\n' for work in works if work.lines_up):
                    text = text.replace(heading, f'{heading}alignment = "rows"\n')
                toml.write_text(text)
            port = trial.ports["alice"][0]
            for work in works:
                spent = measure(console, trial, service, work, port)
                if work is SHORT:
                    start = statistics.median(s["submit, dispatch, start"] for s in spent)
                    without = start + statistics.median(seconds_to_import(trial) for _ in range(IMPORTS))
                    console.print(
                        f"from POST to the parties' start: {start:.3f} s with a process that waits, {without:.3f} s "
                        f"without; ratio (with / without): [bold]{start / without:.3f}[/]\n"
                    )
    finally:
        remove_traces(started)  # the bare scripts' traces too
