"""Wall time of twenty short SPU tasks, one after the other: with their devices kept up, over without."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from secretflow_controlplane_client import Client

from executions.states import ENDED
from executions.trial.stack import Trial
from fixtures.documents import psi_documents
from fixtures.tables import write_tables

TASKS = 20


def one_after_the_other(service: Client, **task: int) -> list[float]:
    """Seconds from each POST until a client that asks every 10 ms is told SUCCESS; the next one follows at once."""
    body = psi_documents(**task)
    spent = []
    for _ in range(TASKS):
        started = time.perf_counter()
        execution = service.call("POST", "executions/", body)
        while execution["status"] not in ENDED:
            time.sleep(0.01)
            execution = service.call("GET", f"executions/{execution['id']}/")
        spent.append(time.perf_counter() - started)
        assert execution["status"] == "SUCCESS", execution["error"]
    return spent


def main(console: Console) -> None:
    directory = Path(tempfile.mkdtemp(prefix="cp-bench-", dir="/tmp"))
    try:
        with Trial(directory) as trial:
            tables = write_tables(directory)
            service = trial.start({p: {"breast_cancer": tables[p]} for p in trial.parties})
            without = one_after_the_other(service)
            trial.wait_for_workers()
            kept = one_after_the_other(service, keep_devices_seconds=60)
    finally:
        shutil.rmtree(directory)
    said = [f"{sum(spent):.1f} s (median {statistics.median(spent):.2f} s)" for spent in (kept, without)]
    console.print(
        f"{TASKS} PSIs of some 450 rows a side, one after the other: {said[0]} with devices kept up, "
        f"{said[1]} without; ratio (with / without): [bold]{sum(kept) / sum(without):.3f}[/]"
    )
