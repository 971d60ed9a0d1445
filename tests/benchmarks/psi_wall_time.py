"""Wall time of a PSI of 10,000 rows a side: from POST to SUCCESS, over the same by hand in two processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from executions.service import ENDED, Service
from executions.trial import Trial
from fixtures.documents import psi_documents
from workers import devices
from workers.party import PartyHost, remove_run_files
from workers.standby import Standby

ROWS = 10_000
OVERLAP = 5_000
RUNS = 5
BARE_RUNS = 3


def write_tables(directory: Path) -> None:
    for party, first in (("alice", 0), ("bob", ROWS - OVERLAP)):
        (directory / party).mkdir(exist_ok=True)
        lines = [f"key-{i},{i * 7 % 1000},{i * 13 % 997}" for i in range(first, first + ROWS)]
        (directory / party / "table.csv").write_text("uid,a,b\n" + "\n".join(lines) + "\n")


def by_hand(directory: Path, port: int) -> float:
    """Seconds from the start of both scripts to the end of the later one."""
    script = Path(__file__).with_name("bare_psi.py")
    started = time.perf_counter()
    both = [
        subprocess.Popen(
            [sys.executable, script, party, str(port), directory],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=directory,
        )
        for party in ("alice", "bob")
    ]
    for process in both:
        said, _ = process.communicate(timeout=120)
        assert str(OVERLAP) in said.decode(errors="replace").splitlines(), "the bare PSI gave another result"
    return time.perf_counter() - started


def through_control_plane(trial: Trial, service: Service, body: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Seconds from before the POST until a client that asks every 10 ms is told SUCCESS."""
    trial.wait_for_workers()  # one job following the other at once would wait for SecretFlow's import
    started = time.perf_counter()
    execution = service.submit(body)
    while execution["status"] not in ENDED:
        time.sleep(0.01)
        execution = service.execution(execution)
    seconds = time.perf_counter() - started
    assert execution["status"] == "SUCCESS", execution["error"]
    assert execution["result"]["intersection_count"]["alice"] == OVERLAP
    return seconds, execution


def seconds_to_import(trial: Trial) -> float:
    """What a job would wait for if no process had imported SecretFlow before it came."""
    host = PartyHost.load(trial.party_dir("alice") / "party.toml")
    started = time.perf_counter()
    standby = Standby("benchmark", trial.redis_url, host)
    assert standby.is_ready(Standby.START_TIMEOUT)
    seconds = time.perf_counter() - started
    standby.close()
    return seconds


def stages(service: Service, execution: dict[str, Any]) -> dict[str, float]:
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
    reached = [s for s in devices.stages() if any(s in p for p in first.values())]
    for stage, following in zip(reached, [*reached[1:], ""], strict=True):
        found[stage] = max((p.get(following, end) - p[stage] for p in first.values() if stage in p), default=0)
    return found


def main(console: Console) -> None:
    directory, started = Path(tempfile.mkdtemp(prefix="cp-bench-", dir="/tmp")), time.time()
    try:
        with Trial(directory) as trial:
            write_tables(directory)
            service = trial.start({p: {"table": directory / p / "table.csv"} for p in trial.parties})
            for party in trial.parties:
                columns = {"uid": "str", "a": "int", "b": "int"}
                service.call("POST", "/api/v1/datasets/", {"party": party, "name": "table", "columns": columns})
            body = psi_documents("table")
            ours = [through_control_plane(trial, service, body) for _ in range(RUNS)]
            spent = [stages(service, execution) for _, execution in ours]
            trial.wait_for_workers()
            importing = [seconds_to_import(trial) for _ in range(BARE_RUNS)]
            port = trial.ports["alice"][0]
            bare = [by_hand(directory, port + 4 * i) for i in range(BARE_RUNS)]
    finally:
        remove_run_files(directory, started)  # the bare scripts' traces too
    control, hand = statistics.median(s for s, _ in ours), statistics.median(bare)
    table = Table(title="PSI, 10,000 rows a side, two parties", title_justify="left")
    table.add_column("")
    table.add_column("median s", justify="right")
    table.add_column("min - max", justify="right")
    walls = [s for s, _ in ours]
    table.add_row("POST to SUCCESS", f"{control:.3f}", f"{min(walls):.3f} - {max(walls):.3f}", style="bold")
    for stage in spent[0]:
        values = [s[stage] for s in spent]
        table.add_row(f"  {stage}", f"{statistics.median(values):.3f}", f"{min(values):.3f} - {max(values):.3f}")
    table.add_row("by hand, cold start", f"{hand:.3f}", f"{min(bare):.3f} - {max(bare):.3f}", style="bold")
    console.print(table)
    start = statistics.median(s["submit, dispatch, start"] for s in spent)
    without = start + statistics.median(importing)
    console.print(
        f"from POST to the parties' start: {start:.3f} s with a standby process, {without:.3f} s without; "
        f"ratio (with / without): [bold]{start / without:.3f}[/]"
    )
    console.print(f"psi_wall_time ratio (control plane / by hand): [bold]{control / hand:.3f}[/]   (aim: 0.15 or less)")
