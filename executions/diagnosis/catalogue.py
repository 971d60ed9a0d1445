"""The catalogue of known failures and waits: by its message, what is behind one and what to do.

The page of an execution, ``manage.py diagnose`` and the guide for operators all say what stands here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from executions.models import Execution


@dataclass(frozen=True, slots=True)
class Known:
    """A failure or a reason for waiting that is known: its message, with ``...`` for each gap, and what to do. With a
    ``stage``: any failure in that stage."""

    message: str
    remedy: str
    stage: str = ""

    def fits(self, text: str, stage: str) -> bool:
        if self.stage:
            return self.stage == stage
        return re.search(".*".join(map(re.escape, self.parts)), text, re.DOTALL) is not None

    @property
    def parts(self) -> list[str]:
        """Return what the message says between its gaps."""
        return [part for part in self.message.split("...") if part.strip()]

    @property
    def shown(self) -> str:
        """Return the message as the guide shows it."""
        return f"stage `{self.stage}`" if self.stage else f"`{self.message.strip()}`"


#: The first that fits counts, so what is more special comes first.
CATALOGUE: Sequence[Known] = (
    Known(
        "no coordinator has looked at it yet",
        "Start `manage.py coordinate` on the control plane, or look at why it ended: its log's last lines say so.",
    ),
    Known(
        "... no live worker; start ...",
        "Run `manage.py rqworker <party>` on that party's host, and read its output: it says what keeps it from "
        "working.",
    ),
    Known(
        "no worker of ... answered the pre-flight checks",
        "Read that worker's output: it may hang or be overloaded. SIGUSR1 makes it log what each thread is doing.",
    ),
    Known(
        "Redis is out of memory (maxmemory)",
        "Raise `maxmemory`, or free space on that server. Workers and coordinators wait and continue by themselves.",
    ),
    Known(
        "Redis takes no writes because ...",
        "Do what the message says. Workers and coordinators wait and continue by themselves.",
    ),
    Known(
        "Redis is not reachable",
        "Check `REDIS_URL` on the control plane, and the server. Work continues by itself.",
    ),
    Known(
        "the result has ... bytes",
        "Use fewer columns: a party can report a result of 12 MiB.",
    ),
    Known(
        "... said that its process has ended, and what came of it never arrived",
        "It is tried again by itself. If it happens again, read the log of that party's worker.",
    ),
    Known(
        "the next process of ... is still importing SecretFlow",
        "Wait: the worker has just started, and importing takes seconds.",
    ),
    Known(
        "the worker of ... is gone, and its job with it",
        "It is tried again by itself. Look at that host: its supervisor, memory and log.",
    ),
    Known(
        "live sessions hold the ports of ...",
        "Wait: they are being closed. Give the party more ports, or remove `keep_devices_seconds` from its tasks.",
    ),
    Known(
        "dataset ... is not as registered",
        "Correct the table on the party's host, or publish it again (`manage.py publish_datasets`) and accept the new "
        "schema on the dataset's page.",
    ),
    Known(
        "... did not come to the meeting",
        "The parties do not reach each other: check the addresses, port ranges and firewalls between their hosts.",
    ),
    Known(
        "the TLS handshake with ... failed",
        "Compare `[tls]` in both parties' `party.toml`: each has to trust the CA of the other's certificate.",
    ),
    Known(
        "... is already in use on this host",
        "It is tried again on another port. Choose a range for the party that nothing else on its host uses.",
    ),
    Known(
        "a peer's address cannot be resolved",
        "Correct the party's address on its page, or the name service of the host that says so.",
    ),
    Known(
        "the link to a peer broke",
        "It is tried again by itself. If it stays, look at the network, and at the memory of the other party's host.",
    ),
    Known(
        "the disk is full",
        "Free space at that party (its `output_dir` and work directory). It is tried again by itself.",
    ),
    Known(
        "PSI could not write its temporary files",
        "Free space at that party, or raise the limit of file sizes of its worker. It is tried again by itself.",
    ),
    Known(
        "memory ran out",
        "Use fewer rows or columns, give that host more memory, or let it run less at once.",
    ),
    Known(
        "the key columns hold duplicate values",
        "Remove the duplicates from that party's table, or name the party in `duplicate_keys` of the task.",
    ),
    Known(
        "the parties' rows do not line up",
        "Make all its inputs with one PSI, or with tasks that keep that PSI's rows in their order.",
    ),
    Known(
        "the run passed its time limit",
        "Raise `run_limit_seconds` of the task, or see in the timeline which stage took the time.",
    ),
    Known(
        "was not dispatched within ...",
        "The message says what it waited for, mostly a party without a free worker. Raise `dispatch_limit_seconds` if "
        "such waits are expected.",
    ),
    Known(
        "it had not ended by its deadline",
        "Submit it again with a later `deadline`, or without one; the timeline shows what took the time.",
    ),
    Known(
        "... has to approve it",
        "People of that party approve it on their own host, with the command that the message names.",
    ),
    Known(
        "... the party's worker log has the details",
        "Read the log of the run on that party's host: `manage.py party logs <execution>`.",
    ),
    Known(
        "",
        "A party's host refused the run before it began. The message says why; the page lists the checks.",
        stage="preflight",
    ),
)


def known(text: str, stage: str = "") -> Known | None:
    """Return what is known of a message, and of the stage in which it came; None if nothing is."""
    return next((entry for entry in CATALOGUE if entry.fits(text, stage)), None)


def remedy_of(execution: Execution) -> str:
    """Return what to do about an execution's failure, or about what it waits for; empty if nothing is known."""
    text, stage = (execution.error, execution.error_stage) if execution.error else (execution.waiting_reason, "")
    found = known(text, stage) if text else None
    return found.remedy if found else ""


def as_table() -> str:
    """Return the catalogue as the table of the guide (docs/operators.md)."""
    rows = (f"| {entry.shown} | {entry.remedy} |" for entry in CATALOGUE)
    return "\n".join(["| message | what to do |", "|---|---|", *rows]) + "\n"
