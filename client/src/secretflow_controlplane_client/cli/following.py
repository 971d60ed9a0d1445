"""Follows an execution to its end, with a bar for each party."""

from __future__ import annotations

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from secretflow_controlplane_client.cli.session import err
from secretflow_controlplane_client.cli.showing import coloured
from secretflow_controlplane_client.client import Client
from secretflow_controlplane_client.errors import ControlPlaneError
from secretflow_controlplane_client.models import SUCCESS, EventTold, Execution, StateTold, Told


class _Bars:
    """What is shown meanwhile."""

    def __init__(self, progress: Progress, execution: Execution) -> None:
        self._progress, self._ids = progress, dict[str, TaskID]()
        for party in execution.parties:
            self._ids[party] = progress.add_task(party, total=1.0, status="")

    def take(self, told: Told) -> None:
        """Show what a stream tells."""
        if isinstance(told, StateTold):
            why = f"  {told.why}" if told.why else ""
            self._progress.console.print(
                Text.assemble(f"{told.at.astimezone():%H:%M:%S}  ", coloured(told.status), why)
            )
        elif isinstance(told, EventTold):
            party = self._ids.get(told.party)
            done = told.data.get("progress") if isinstance(told.data, dict) else None
            if party is not None:
                says = told.status if told.status != "RUNNING" else told.stage or told.status
                done = 1.0 if told.status == SUCCESS else done
                known = float(done) if isinstance(done, int | float) else None
                self._progress.update(party, completed=known, status=says)


def follow(client: Client, execution: Execution) -> Execution:
    """Show an execution until its end, and return it as it is then. Raises ControlPlaneError."""
    columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[status]}"))
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True) as progress:
        bars = _Bars(progress, execution)
        try:
            for told in client.events(execution):
                bars.take(told)
        except ControlPlaneError as error:
            # A server that cannot stream, or has too many streams open, can still be asked
            if error.status not in (406, 503):
                raise
            err.print(Text("There is no stream of events; waiting for the end.", style="dim"))
        return client.wait(execution)


def ended(execution: Execution) -> bool:
    """Tell how an execution has ended, with the cause if it has failed. Returns whether it has succeeded."""
    took = f" after {execution.seconds:.1f} s" if execution.seconds is not None else ""
    err.print(Text.assemble((execution.title, "bold"), "  ", coloured(execution.status), took))
    if execution.error and execution.status != SUCCESS:
        err.print(Text.assemble(("cause: ", "bold"), str(execution.error)))
    return execution.status == SUCCESS
