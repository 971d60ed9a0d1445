"""A migrated SQLite database, with which the trials of the tests begin: to migrate one takes two seconds of a core."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

#: Not from the code that is tested: it reads the environment, which is not that of the tests yet.
ROOT = Path(__file__).parent.parent
PLACE = "TESTS_MIGRATED"


def announce(directory: Path) -> None:
    """Let it be made in this process' directory; the processes that pytest-xdist starts inherit the place."""
    os.environ.setdefault(PLACE, str(directory))


def copy_to(database: Path) -> None:
    """Put a copy there; the first one who wants one makes it."""
    directory = Path(os.environ[PLACE])
    template = directory / "migrated.sqlite3"
    with (directory / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            _make(template)
    shutil.copyfile(template, database)


def _make(template: Path) -> None:
    begun = template.with_suffix(".begun")
    url = f"sqlite:///{begun}"
    command = [sys.executable, "manage.py", "migrate", "-v0"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"DATABASE_URL": url}, check=True, timeout=120)
    begun.rename(template)
