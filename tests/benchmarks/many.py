"""Many short PSIs submitted at once, with one slot a party and with four, and over TLS: seconds each, over the bare
script, which has no TLS."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from rich.console import Console
from secretflow_controlplane_client import Client

from executions.states import ENDED
from executions.trial.stack import Trial
from tests.benchmarks.wall_time import SHORT, by_hand, doubt

LIMIT = 900.0
HAND_RUNS = 3
ROWS_OF_RESULT = SHORT.rows / 2


def submit_at_once(service: Client, count: int, *, over_tls: bool = False) -> list[float]:
    """Return when each execution ended, in seconds since the first was submitted, the earliest first."""
    started = time.time()
    body = SHORT.body(SHORT.table)
    body["sf_init_config"] |= {"tls_config": {"enabled": over_tls}}
    submitted = [service.call("POST", "executions/", body)["id"] for _ in range(count)]
    until = time.monotonic() + LIMIT
    ended: dict[str, dict[str, str]] = {}
    while ended.keys() != set(submitted):
        newest = service.call("GET", f"/api/v1/executions/?page_size={count}")["results"]
        ended |= {e["id"]: e for e in newest if e["status"] in ENDED}
        assert time.monotonic() < until, "they do not end"
        time.sleep(3)  # when each one ended it says itself, and this list would take a tenth of a core
    ends = []
    for pk in submitted:
        execution = service.call("GET", f"executions/{ended[pk]['id']}/")
        assert execution["status"] == "SUCCESS", execution["error"]
        assert SHORT.figure(execution["result"]) == ROWS_OF_RESULT
        ends.append(datetime.fromisoformat(execution["ended_at"].replace("Z", "+00:00")).timestamp() - started)
    return sorted(ends)


def idle_mb(trial: Trial) -> float:
    """Return the memory of a party's worker with all its processes, the larger party's: what they share among each
    other is counted once."""
    return max(_mb(trial.processes[f"worker-{party}"].pid) for party in trial.parties)


def _mb(pid: int) -> float:
    process = Path(f"/proc/{pid}")
    lines = (process / "smaps_rollup").read_text().splitlines()
    # Not Private_: what a zygote shares with its children would be counted nowhere
    own = sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:")) / 1024
    children = [child for found in process.glob("task/*/children") for child in found.read_text().split()]
    return own + sum(_mb(int(child)) for child in children)


def start_with_tables(trial: Trial, slots: int = 1) -> Client:
    """Start a site whose parties have the tables of a short PSI, registered, and return a client of it."""
    tables = {party: {SHORT.table: trial.directory / f"{party}.csv"} for party in trial.parties}
    for party in trial.parties:
        SHORT.write(party, tables[party][SHORT.table], SHORT.rows)
    service = trial.start(tables, slots=slots)
    for party, columns in SHORT.columns.items():
        service.call("POST", "/api/v1/datasets/", {"party": party, "name": SHORT.table, "columns": columns})
    return service


def measure(console: Console, slots: int, count: int, *, over_tls: bool = False) -> None:
    directory = Path(tempfile.mkdtemp(prefix="cp-bench-", dir="/tmp"))
    try:
        with Trial(directory) as trial:
            service = start_with_tables(trial, slots)
            for party in trial.parties:  # where the script by hand looks for them
                shutil.copy(directory / f"{party}.csv", directory / party / f"{SHORT.table}.csv")
            time.sleep(3)
            idle = idle_mb(trial)
            ends = submit_at_once(service, count, over_tls=over_tls)
            trial.wait_for_workers()
            port = trial.ports["alice"][1] - 4 * HAND_RUNS
            bare = [by_hand(SHORT, directory, port + 4 * run, ROWS_OF_RESULT)[0] for run in range(HAND_RUNS)]
            hand = statistics.median(bare)
    finally:
        shutil.rmtree(directory)
    each, quarter = ends[-1] / count, count // 4
    first, last = ends[quarter - 1] / quarter, (ends[-1] - ends[-quarter - 1]) / quarter
    console.print(
        f"{count} PSIs of {SHORT.rows:,} rows submitted at once{', over TLS' * over_tls}, slots a party: {slots}: "
        f"{ends[-1]:.0f} s, "
        f"{60 / each:.0f} a minute, {each:.2f} s each (the first quarter {first:.2f} s, the last {last:.2f} s); "
        f"by hand {hand:.2f} s; ratio (each / by hand): [bold]{each / hand:.3f}[/], of the last quarter "
        f"[bold]{last / hand:.3f}[/]   (aim: 0.10 or less)\n"
        f"memory of an idle worker with all its processes, libraries' files apart: [bold]{idle:.0f} MB[/]   "
        f"(aim: 250 or less with one slot)\n{doubt(bare)}"
    )


def main(console: Console, count: int = 100) -> None:
    for slots in (1, 4):
        measure(console, slots, count)
    measure(console, 1, count, over_tls=True)
