"""The command of a party's host that shows the log of a run."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.core.management.base import CommandError

from workers.contract.logs import LEVELS
from workers.host.log_lines import at_least
from workers.host.party import PartyHost
from workers.host.run_logs import RunLogs


def add_command(commands: Any) -> None:
    shown = commands.add_parser("logs", help="Print the whole log of this party's run of an execution.")
    shown.add_argument("execution", help="Id of the execution, or its first characters.")
    shown.add_argument("--attempt", type=int, help="Number of the attempt. Default: the latest.")
    shown.add_argument(
        "--level", type=str.lower, choices=list(LEVELS), metavar="LEVEL",
        help=f"Only lines of at least this level, with what continues them: {', '.join(LEVELS)}.",
    )  # fmt: skip
    shown.add_argument("--follow", action="store_true", help="Go on with what is added, until Ctrl-C.")


def run(host: PartyHost, options: dict[str, Any], stdout: Any, stderr: Any) -> None:
    """Print a log. Raises ConfigError or CommandError if there is none."""
    logs = RunLogs(host.logs_dir)
    path = logs.find(options["execution"], options["attempt"])
    attempts = logs.attempts(path)
    if len(attempts) > 1 and options["attempt"] is None:
        others = ", ".join(map(str, attempts[:-1]))
        stderr.write(f"attempt {attempts[-1]}; there are logs of attempts {others}, too: --attempt")
    lines: Any = logs.read(path, follow=options["follow"])
    if options["level"]:
        lines = at_least(lines, LEVELS[options["level"]])
    try:
        with suppress(KeyboardInterrupt, BrokenPipeError):
            for line in lines:
                stdout.write(line)
                if options["follow"]:
                    stdout.flush()
    except OSError as error:
        raise CommandError(f"the log cannot be read: {error.strerror}") from None
