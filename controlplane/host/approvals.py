"""The commands of `manage.py party` with which people on a party's host decide what runs there."""

from __future__ import annotations

import getpass
import json
from datetime import datetime
from typing import Any
from uuid import uuid4

from django.core.management.base import CommandError, OutputWrapper
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from controlplane.management.redis import connect_to_redis
from workers.contract.connection import trouble
from workers.contract.errors import ConfigError
from workers.contract.reports import APPROVAL, NAME_LENGTH, REASON_LENGTH
from workers.host.approvals import DAYS, Approvals, Request
from workers.host.party import PartyHost
from workers.host.publication import verdicts
from workers.host.stream import Stream

#: The names of these commands.
COMMANDS = ("approvals", "approve", "refuse")


def add_commands(commands: Any) -> None:
    """Add these commands to those of `manage.py party`."""
    listed = commands.add_parser("approvals", help="List what waits for an approval; with a request, show all of it.")
    listed.add_argument("request", nargs="?", default="", help="Beginning of the request's name.")
    approve = commands.add_parser("approve", help="Approve a request: sign that it may run on this host.")
    approve.add_argument("request", help="Beginning of the request's name, as `party approvals` lists it.")
    approve.add_argument(
        "--uses",
        type=int,
        default=1,
        help="How many executions of just this it covers: of a schedule, say. Default: 1.",
    )
    approve.add_argument("--days", type=float, default=DAYS, help=f"For how many days. Default: {DAYS:g}.")
    approve.add_argument("--yes", action="store_true", help="Do not show it and ask.")
    refuse = commands.add_parser("refuse", help="Refuse a request, or take back an approval.")
    refuse.add_argument("request", help="Beginning of the request's name.")
    refuse.add_argument("--reason", default="", help="Why; everybody sees it who sees the execution.")
    for parser in (approve, refuse):
        parser.add_argument("--by", default="", help="Your name, for the record; your account's if left out.")
        parser.add_argument(
            "--wait",
            type=float,
            default=10.0,
            metavar="SECONDS",
            help="How long to wait for the control plane. Default: 10.",
        )


def run(host: PartyHost, command: str, options: dict[str, Any], out: OutputWrapper) -> None:
    """Run one of these commands. Raises CommandError."""
    try:
        check_user(host)
        approvals = Approvals(host.approvals_dir, host.signer)
        if command == "approvals":
            out.write(_shown(approvals.find(options["request"])) if options["request"] else _listed(host, approvals))
            return
        request = approvals.find(options["request"])
        by = (options["by"] or getpass.getuser())[:NAME_LENGTH]
        if command == "approve":
            _approve(approvals, request, by, options, out)
        else:
            approvals.refuse(request, reason=options["reason"][:REASON_LENGTH])
            out.write("refused on this host")
        _tell(host, request, by, options, command == "approve", out)
    except ConfigError as error:
        raise CommandError(f"{error}.") from None
    except OSError as error:
        raise CommandError(f"The approvals in output_dir of party.toml cannot be used: {error.strerror}.") from None


def check_user(host: PartyHost) -> None:
    """Raise CommandError unless this is the user who runs the host's worker."""
    if host.is_of_another_user:
        raise CommandError("Run this as the user who runs the worker: output_dir of party.toml is another user's.")


def _approve(approvals: Approvals, request: Request, by: str, options: dict[str, Any], out: OutputWrapper) -> None:
    uses, days = options["uses"], options["days"]
    if not 1 <= uses <= 1_000_000:
        raise CommandError(f"--uses is {uses}; it is a number from 1 to 1,000,000.")
    if not 0 < days <= 3660:
        raise CommandError(f"--days is {days:g}; it is more than 0, and at most 3660.")
    if not options["yes"]:
        out.write(_shown(request))
        how_often = "once" if uses == 1 else f"{uses:,} times"
        if not agreed(f"May this run on this host, {how_often}, within {days:g} days? [y/N] "):
            raise CommandError("Nothing was approved.")
    approval = approvals.approve(request, by=by, uses=uses, days=days)
    out.write(f"approved on this host until {datetime.fromtimestamp(approval.until).astimezone():%Y-%m-%d %H:%M}")


def agreed(question: str) -> bool:
    """Return whether somebody at the terminal says yes."""
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # nobody is there to answer
        return False


def _tell(
    host: PartyHost, request: Request, by: str, options: dict[str, Any], approved: bool, out: OutputWrapper
) -> None:
    """Tell the control plane, so that what waits goes on at once. Raises CommandError if it did not hear."""
    publication = str(uuid4())
    content: dict[str, Any] = {
        "publication": publication, "digest": request.digest, "executions": request.executions, "approved": approved,
        "by": by, "reason": "" if approved else options["reason"][:REASON_LENGTH],
    }  # fmt: skip
    again = "It is decided on this host; run this again to tell the control plane."
    if approved:
        content |= {"uses": options["uses"], "days": options["days"]}
    try:
        stream = Stream(connect_to_redis(), host.name, host.signer)
        stream.report(APPROVAL, content)
        answer = verdicts(stream.connection, host.name, publication, {request.digest}, options["wait"])
    except (RedisError, OSError) as error:
        raise CommandError(f"{trouble(error)}. {again}") from None
    if not answer:
        raise CommandError(f"No coordinator answered within {options['wait']:g} s. {again}")
    out.write(f"the control plane was told: {answer[request.digest]['verdict']}")


def _listed(host: PartyHost, approvals: Approvals) -> str:
    waiting = approvals.waiting()
    if not waiting:
        return "nothing waits for an approval" + ("" if host.approvals else ': party.toml does not say approve = "ask"')
    table = Table(box=None, title=f"waiting for an approval at {host.name}", title_justify="left")
    for heading in ("request", "asked", "task type", "parties", "reads", "executions"):
        table.add_column(heading, overflow="fold")
    for request in waiting:
        task = request.documents.get("task_config", {})
        parties = request.documents.get("sf_init_config", {}).get("parties", [])
        table.add_row(
            request.digest[:12],
            f"{datetime.fromtimestamp(request.asked_at).astimezone():%Y-%m-%d %H:%M}",
            str(task.get("task_type", "")),
            ", ".join(map(str, parties)),
            str(task.get("data_sources", {}).get(host.name, "")),
            f"{len(request.executions):,}",
        )
    console = Console(width=160)
    with console.capture() as shown:
        console.print(table, markup=False)
    return shown.get()


def _shown(request: Request) -> str:
    """Return all of a request. JSON escapes what a terminal would take for commands."""
    return json.dumps({"request": request.digest, "executions": request.executions, **request.documents}, indent=2)
