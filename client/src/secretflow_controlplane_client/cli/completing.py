"""What Tab offers: names of tasks, and executions. Where the control plane does not answer, it offers nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import typer

from secretflow_controlplane_client.cli.session import TOKEN, URL
from secretflow_controlplane_client.client import Client
from secretflow_controlplane_client.errors import ControlPlaneError
from secretflow_controlplane_client.protocol import Retry

#: Seconds for which somebody waits after Tab, and rows that are offered.
PATIENCE, MOST = 3.0, 50
#: What a shell would not take as a part of a word.
_SPECIAL = re.compile(r"[^\w@%+=:,./-]")


def tasks(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of tasks that begin so."""
    rows = _asked(context, lambda client: client.call("GET", "tasks/", page_size=500, ordering="name", fields="name"))
    return _offered([str(row["name"]) for row in rows], incomplete)


def executions(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the latest executions whose ids begin so."""
    rows = _asked(
        context, lambda client: client.call("GET", "executions/", page_size=MOST, fields="id,name,task,status")
    )
    return [
        (row["id"], f"{row['name'] or row['task'] or ''} {row['status']}".strip())
        for row in rows
        if str(row["id"]).startswith(incomplete)
    ]


def _offered(names: list[str], incomplete: str) -> list[str]:
    """Return those that begin so, as they stand in a command: bash, alone of the shells, leaves that to who
    completes."""
    found = [name for name in names if name.startswith(incomplete)]
    words = os.environ.get("COMP_WORDS", "")
    if not os.environ.get("_SFCP_COMPLETE", "").endswith("bash") or "'" in words or '"' in words:
        return found
    # What has been typed has to stay as it was read, so that a blank in it needs quotes
    return [] if _SPECIAL.search(incomplete) else [incomplete + _escaped(name[len(incomplete) :]) for name in found]


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda match: f"\\{match.group()}", text)


def _asked(context: typer.Context, ask: Callable[[Client], Any]) -> Iterator[Any]:
    given = context.find_root().params
    url = given.get("url") or os.environ.get(URL, "")
    token = given.get("token") or os.environ.get(TOKEN, "")
    try:
        with Client(url, token, timeout=PATIENCE, retry=Retry(attempts=1)) as client:
            yield from ask(client)["results"]
    except (ControlPlaneError, KeyError, TypeError):
        return
