"""``make demo``: the main job with two parties on this machine, as another service would ask for it.

Starts a trial in a private directory, submits a PSI and then a logistic regression over the REST API,
shows what each party does, prints the results, and leaves the site up until Ctrl-C (``--once``: ends by
itself, with status 0 only if both succeeded). The directory is removed at the end, but for ``--keep`` and after a
failure.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # before the slow imports: Ctrl-C in the first second needs no traceback either
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from secretflow_controlplane_client import Client, ControlPlaneError, Execution, Result

from executions.states import COLOURS, RunStatus, Status
from executions.trial.stack import Trial, TrialError
from fixtures.tables import clear_auc, write_tables

#: By a status's colour on the pages: the terminal's colour.
STYLES = {
    "primary": "magenta",
    "success": "green",
    "danger": "red",
    "warning": "yellow",
    "info": "cyan",
    "default": "dim",
}
TIME_LIMIT = 120.0
#: Largest difference between the two models' AUC that counts as the same result.
AUC_TOLERANCE = 0.02


def style_of(status: str) -> str:
    return STYLES[COLOURS[status]]


class DemoFailed(Exception):
    """The demo's result is not what it should be."""


def show(execution: Execution) -> Group:
    """Return an execution's state as text, with a line for each party."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("party", "status", "stage", "progress", ""):
        table.add_column(heading, style="dim" if heading == "" else "", header_style="dim")
    for run in execution.runs:
        table.add_row(
            run.party,
            Text(run.status, style=style_of(run.status)),
            "" if run.status == RunStatus.SUCCESS else run.stage,
            ProgressBar(total=1, completed=run.progress, width=24),
            ", ".join(run.devices),
        )
    status = execution.status
    headline = Text.assemble((execution.title, "bold"), "  ", (status, style_of(status)))
    if execution.waiting_for:
        headline.append(f"  {execution.waiting_for}", style="yellow")
    return Group(headline, table)


def run_task(service: Client, console: Console, task: str) -> Result:
    """Submit a registered task, watch it, and return its result. Raises DemoFailed unless it succeeded."""
    console.print(f"[dim]POST {service.url}/api/v1/executions/  {json.dumps({'task': task})}[/]")
    started = time.monotonic()
    execution = service.submit(task)
    with Live(show(execution), console=console, refresh_per_second=12) as live:
        while not execution.has_ended and time.monotonic() - started < TIME_LIMIT:
            time.sleep(0.2)  # asking more often would take processor time from the parties, on two cores
            execution = service.get(execution)
            live.update(show(execution))
    if execution.status != Status.SUCCESS:
        raise DemoFailed(f"{task}: {execution.status} {execution.error or ''}")
    console.print(f"[dim]took {execution.seconds or 0:.2f} s from POST to SUCCESS[/]\n")
    return service.result(execution)


def run(console: Console, trial: Trial, once: bool) -> None:
    console.print(Panel("SecretFlow control plane: two parties on this machine, for a trial only", style="bold"))
    with console.status("writing the tables, preparing the database, starting the parties..."):
        tables = write_tables(trial.directory)
        service = trial.start({party: {"breast_cancer": tables[party]} for party in trial.parties})
    addresses = Table.grid(padding=(0, 2))
    addresses.add_row("admin", f"{trial.url}/admin/   user admin, password {trial.password}")
    addresses.add_row("API", f"{trial.url}/api/v1/docs/   Authorization: Token {trial.token}")
    addresses.add_row("logs", str(trial.logs))
    addresses.add_row("parties", f"{trial.party_dir(trial.parties[0])} and so on: party.toml, tables, outputs")
    console.print(addresses, "")

    psi = run_task(service, console, "intersect patients")
    lr = run_task(service, console, "predict malignancy")

    rows, clear = clear_auc(tables["alice"], tables["bob"])
    auc = lr.metrics["auc"]
    results = Table(title="results", title_justify="left", title_style="bold")
    for heading in ("", "SecretFlow", "in the clear"):
        results.add_column(heading)
    for party in trial.parties:
        results.add_row(f"patients in common, as {party} sees it", str(psi.intersection_count[party]), str(rows))
    results.add_row("AUC of the logistic regression", f"{auc:.4f}", f"{clear:.4f} (scikit-learn)")
    console.print(results)
    if set(psi.intersection_count.values()) != {rows}:
        raise DemoFailed("the intersection is not that of the tables in the clear")
    if abs(auc - clear) > AUC_TOLERANCE:
        raise DemoFailed(f"the AUC is off by more than {AUC_TOLERANCE}")
    if once:
        return
    console.print(f"\nThe site stays up at [bold]{trial.url}/admin/[/]; Ctrl-C stops everything.")
    while True:
        time.sleep(1)
        trial.check()


def interrupt(*_: Any) -> None:
    """Send Ctrl-C again and again until it is noticed: a library that is being imported may swallow it."""
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="end by itself; exit status 0 only if both succeeded")
    parser.add_argument(
        "--keep", action="store_true", help="leave the directory, with all outputs, as it is at the end"
    )
    arguments = parser.parse_args()
    once = arguments.once
    console = Console()
    # A supervisor's SIGTERM ends it as Ctrl-C does: with everything stopped
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, interrupt)
    # /tmp, and short: a unix socket's path has room for 107 characters
    directory = Path(tempfile.mkdtemp(prefix="secretflow-demo-", dir="/tmp"))
    status = 1
    try:
        with Trial(directory) as trial:
            try:
                run(console, trial, once)
                status = 0
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    except (DemoFailed, ControlPlaneError, TrialError) as error:
        console.print(f"[bold red]failed:[/] {error}", highlight=False)
        console.print(f"[dim]logs: {directory / 'logs'}[/]")
        return 1
    except KeyboardInterrupt:
        console.print("\nstopped")
        status = 0 if not once else 1
    # Kept after a failure: the logs say more
    if arguments.keep:
        console.print(f"[dim]kept: {directory}[/]")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
