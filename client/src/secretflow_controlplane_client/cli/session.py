"""Which control plane is asked, with which token; and how errors are told."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from secretflow_controlplane_client.client import Client
from secretflow_controlplane_client.errors import INPUT, UNREACHABLE, ControlPlaneError
from secretflow_controlplane_client.protocol import Retry

#: Names of the environment's variables.
URL, TOKEN = "SFCP_URL", "SFCP_TOKEN"
#: What to do about an error, by its kind.
_ADVICE = {
    "not-authenticated": f"Is {TOKEN} the token that an administrator gave you, and is it still valid?",
    "forbidden": "Ask an administrator for the permission, or for a token with the scope.",
    UNREACHABLE: f"Is {URL} right, and is the control plane up?",
}
#: Results go to stdout, all else to stderr, so that scripts read results alone.
err = Console(stderr=True, highlight=False, soft_wrap=True)
_secrets: set[str] = set()


class Session:
    """The options that come before a command."""

    def __init__(self, url: str, token: str, timeout: float) -> None:
        self.url, self._token, self._timeout = url, token, timeout
        keep_secret(token)

    def client(self, retry: Retry | None = None) -> Client:
        """Return a client. Raises ControlPlaneError if the address or the token is missing or wrong."""
        for value, name, option in ((self.url, URL, "--url"), (self._token, TOKEN, "--token")):
            if not value.strip():
                raise ControlPlaneError(INPUT, f"Set {name}, or give {option}.")
        return Client(self.url, self._token, timeout=self._timeout, retry=retry)


def keep_secret(token: str) -> None:
    """Have a token replaced wherever a text is told."""
    if len(token.strip()) > 3:
        _secrets.add(token.strip())


def clean(text: str) -> str:
    """Return a text without tokens."""
    for secret in _secrets:
        text = text.replace(secret, "***")
    return text


def session_of(context: typer.Context) -> Session:
    """Return the session of a command."""
    found: Session = context.find_root().obj
    return found


def told(error: ControlPlaneError) -> None:
    """Tell an error on stderr, with what to do about it."""
    err.print(Text.assemble(("error: ", "bold red"), clean(error.text)))
    if advice := _ADVICE.get(error.kind):
        err.print(Text(advice, style="dim"))


def refuse(text: str) -> Any:
    """Raise an error of what the command was given."""
    raise ControlPlaneError(INPUT, text)
