"""`manage.py profile` in a process of its own, on an SQLite database of its own, whichever one the tests use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from controlplane.environment import ROOT


def test_it_ends_with_a_status_and_never_with_a_trace(tmp_path: Path) -> None:
    """As an operator runs it; first where there is no database yet."""
    env = os.environ | {"CONTROLPLANE_STATE_DIR": str(tmp_path / "state")}
    env.pop("DATABASE_URL", None)

    def manage(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    status, said = manage("profile", "check", "config/dev.yaml")
    assert (status, "is not migrated" in said) == (1, True)
    assert manage("migrate", "-v0")[0] == 0
    assert manage("profile", "check", "config/dev.yaml") == (0, "config/dev.yaml is right: 17 entries.\n")
    (tmp_path / "wrong.yaml").write_text("parties:\n  alice: {}\n")
    status, said = manage("profile", "apply", str(tmp_path / "wrong.yaml"))
    assert status == 1
    assert "wrong.yaml has 3 problems:\nline 2: parties.alice.address: is required; add it\n" in said
