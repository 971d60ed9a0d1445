"""Runs what docs/services.md has a service do, word for word, against a real site."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.environment import ROOT
from executions.trial.stack import Trial

GUIDE = (ROOT / "docs/services.md").read_text()
LIMIT = 120.0


def _block(language: str, having: str) -> str:
    [found] = [b for b in re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL) if having in b]
    return str(found)


def by_curl(trial: Trial, directory: Path) -> str:
    """Run the guide's walk with curl and return what it printed."""
    env = os.environ | {"SITE": trial.url, "TOKEN": trial.token}
    script = "set -eo pipefail\n" + _block("bash", "Idempotency-Key")
    done = subprocess.run(
        ["bash", "-c", script], env=env, cwd=directory, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def receiver(secret: str, port: int, directory: Path) -> Iterator[Path]:
    """The guide's receiver of webhooks, as a process of its own, and the file of what it prints."""
    printed = directory / "received.txt"
    env = os.environ | {"WEBHOOK_SECRET": secret, "PORT": str(port)}
    with printed.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _block("python", "HTTPServer")], env=env, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None, printed.read_text()
            assert time.monotonic() < until, "it does not listen"
            time.sleep(0.05)
        yield printed
    finally:
        process.terminate()
        process.wait(10)
