"""The commands of ``sfcp``."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from secretflow_controlplane_client.cli import completing, showing
from secretflow_controlplane_client.cli.following import ended, follow
from secretflow_controlplane_client.cli.session import TOKEN, URL, Session, clean, err, refuse, session_of
from secretflow_controlplane_client.client import Client
from secretflow_controlplane_client.connection import VERSION
from secretflow_controlplane_client.flows import result_of
from secretflow_controlplane_client.models import EventTold, Execution, Gap, StateTold, Told

app = typer.Typer(
    name="sfcp",
    help="Run and watch executions of a SecretFlow control plane.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Labels = Annotated[list[str] | None, typer.Option("--label", help="A label, key:value. Give several.", metavar="K:V")]
OneExecution = Annotated[str, typer.Argument(help="Id of the execution.", autocompletion=completing.executions)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Show its progress, and return once it has ended.")]


def _version(wanted: bool) -> None:
    if wanted:
        showing.print_plain(VERSION)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar=URL, help="Address of the control plane.")] = "",
    token: Annotated[str, typer.Option(envvar=TOKEN, help="Your token.", show_default=False, metavar="TOKEN")] = "",
    timeout: Annotated[float, typer.Option(help="Seconds in which it has to answer.", min=0.1)] = 20.0,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it.")] = False,
) -> None:
    context.obj = Session(url, token, timeout)


@app.command()
def run(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="Name of a registered task.", autocompletion=completing.tasks)],
    label: Labels = None,
    override: Annotated[
        str, typer.Option(help="Changes to the task's documents: a JSON Merge Patch, or a file that holds one.")
    ] = "",
    deadline: Annotated[
        str, typer.Option(help="It fails unless it has ended by then, such as 2030-01-31T18:00:00+01:00.")
    ] = "",
    name: Annotated[str, typer.Option(help="What to call the execution.")] = "",
    priority: Annotated[int | None, typer.Option(help="Higher ones go first.")] = None,
    wait: Wait = True,
) -> None:
    """Run a task. The exit status is 1 unless it succeeds."""
    with session_of(context).client() as client:
        execution = client.submit(
            task,
            overrides=_overrides(override),
            labels=_labels(label) or None,
            deadline=_moment(deadline),
            name=name or None,
            priority=priority,
        )
        _go_on(client, execution, wait)


def _go_on(client: Client, execution: Execution, wait: bool) -> None:
    """Print the id of a new execution, and follow it if that is wanted."""
    showing.print_plain(execution.id)
    if not wait:
        return
    try:
        execution = follow(client, execution)
    except KeyboardInterrupt:
        err.print(f"It goes on without you: sfcp watch {execution.id}, or sfcp cancel {execution.id}")
        raise typer.Exit(130) from None
    if not ended(execution):
        raise typer.Exit(1)


@app.command()
def watch(
    context: typer.Context,
    execution: Annotated[
        str, typer.Argument(help="Id of an execution; all if left out.", autocompletion=completing.executions)
    ] = "",
    label: Labels = None,
    party: Annotated[str, typer.Option(help="Only executions that this party takes part in.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print what happens, a line each. Of one execution: from its beginning to its end, with exit status 1 unless it
    succeeds."""
    with session_of(context).client() as client:
        filters: dict[str, Any] = {"label": label, "party": party or None}
        for told in client.events(execution or None, **filters):
            if as_json:
                showing.print_plain(told.model_dump_json(exclude={"position"}))
            else:
                showing.out.print(_line(told, bool(execution)), soft_wrap=True)
            showing.out.file.flush()
        if not ended(client.wait(execution)):
            raise typer.Exit(1)


def _line(told: Told, is_one: bool) -> Text:
    if isinstance(told, Gap):
        return Text(told.detail, style="yellow")
    about = "" if is_one else f"{told.execution[:8]}  {told.name or told.task_type}  "
    if isinstance(told, StateTold):
        return Text.assemble(
            f"{told.at.astimezone():%H:%M:%S}  {about}", showing.coloured(told.status), f"  {told.why}".rstrip()
        )
    assert isinstance(told, EventTold)
    at = told.received_at or told.timestamp
    when = f"{at.astimezone():%H:%M:%S}  " if at else ""
    says = " ".join(filter(None, [told.status, told.stage]))
    return Text.assemble(f"{when}{about}", (told.party, "bold"), f"  {says}")


@app.command()
def logs(
    context: typer.Context,
    execution: OneExecution,
    party: Annotated[str, typer.Option(help="Only this party's.")] = "",
    level: Annotated[str, typer.Option(help="The lowest level: debug, info, warning, error or critical.")] = "",
    attempt: Annotated[int | None, typer.Option(help="Only this attempt's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the lines of logs that the parties have sent."""
    with session_of(context).client() as client:
        for line in client.logs(execution, party=party or None, level=level or None, attempt=attempt):
            if as_json:
                showing.print_plain(line.model_dump_json())
            else:
                told = f"{showing.moment(line.at)}  {line.party}  {line.level}  {line.text}"
                showing.print_plain(f"{told}  ({line.source})" if line.source else told)


@app.command()
def result(
    context: typer.Context,
    execution: OneExecution,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with all digits.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the result of an execution."""
    if as_csv and as_json:
        refuse("Give --csv or --json, not both.")
    with session_of(context).client() as client:
        found = client.get(execution)
    if found.has_ended and found.status != "SUCCESS":
        ended(found)
        raise typer.Exit(1)
    result_of(found)
    # As it was answered: a task type of another package may have anything
    data = found.result or {}
    (showing.as_json if as_json else showing.as_csv if as_csv else showing.shown)(data)


@app.command(name="list")
def list_executions(
    context: typer.Context,
    status: Annotated[list[str] | None, typer.Option(help="Only with this status. Give several.")] = None,
    task: Annotated[str, typer.Option(help="Only of this task.", autocompletion=completing.tasks)] = "",
    name: Annotated[str, typer.Option(help="Only of this name.")] = "",
    party: Annotated[str, typer.Option(help="Only those that this party takes part in.")] = "",
    label: Labels = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """Print executions, newest first."""
    filters = {"task": task or None, "name": name or None, "party": party or None, "label": label}
    wanted = [one.upper() for one in status or []]
    with session_of(context).client() as client:
        found = list(islice(client.list(status=wanted, page_size=min(limit, 200), **filters), limit))
    if as_json:
        showing.as_json([one.model_dump(mode="json", exclude_unset=True) for one in found])
    else:
        showing.listed(found)


@app.command()
def cancel(
    context: typer.Context,
    executions: Annotated[list[str], typer.Argument(help="Their ids.", autocompletion=completing.executions)],
) -> None:
    """Stop executions at all parties."""
    with session_of(context).client() as client:
        for execution in executions:
            found = client.cancel(execution)
            err.print(Text.assemble(found.id, "  ", showing.coloured(found.status)))


@app.command()
def retry(context: typer.Context, execution: OneExecution, wait: Wait = True) -> None:
    """Run an ended execution again, as a new one."""
    with session_of(context).client() as client:
        _go_on(client, client.retry(execution), wait)


@app.command()
def apply(
    context: typer.Context,
    profile: Annotated[Path, typer.Argument(help="A profile, as YAML (docs/operations.md).")],
) -> None:
    """Register what a profile names. A second time it changes nothing. What the profile does not name stays."""
    with session_of(context).client() as client:
        found = client.apply(profile)
    for path in found.created:
        showing.print_plain(f"created    {path}")
    for path, fields in found.changed.items():
        showing.print_plain(f"changed    {path}: {', '.join(fields)}")
    for path in found.unchanged:
        showing.print_plain(f"unchanged  {path}")
    for path, error in found.refused.items():
        err.print(Text.assemble(("refused    ", "bold red"), path))
        err.print(Text("\n".join(f"  {line}" for line in clean(error.text).splitlines())))
    if found.refused:
        raise typer.Exit(1)


def _labels(given: list[str] | None) -> dict[str, str]:
    found = {}
    for label in given or []:
        key, colon, value = label.partition(":")
        if not (key and colon):
            refuse(f"The label {label!r} should be like team:risk")
        found[key] = value
    return found


def _overrides(given: str) -> dict[str, Any] | None:
    """Return the changes to a task's documents, which are given as JSON or in a file."""
    if not given:
        return None
    text, where = given, "--override"
    if not given.lstrip().startswith("{"):
        where = given
        try:
            text = Path(given).read_text(encoding="utf-8-sig")
        except OSError as error:
            refuse(f"{given} cannot be read: {error.strerror}; give a file's path, or JSON that begins with {{")
        except UnicodeDecodeError:
            refuse(f"{given} is not UTF-8")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        refuse(f"{where} is no JSON: {error}")
    if not isinstance(found, dict):
        refuse(f'{where} should hold the documents to change, such as {{"task_config": {{...}}}}')
    return dict(found)


def _moment(given: str) -> datetime | None:
    """Return a time; the reader's own zone if it names none."""
    if not given:
        return None
    try:
        at = datetime.fromisoformat(given.strip().replace("Z", "+00:00"))
        return at.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return refuse(f"The deadline {given!r} should be like 2030-01-31T18:00:00+01:00")
