"""However a pytest process ends, even killed in the middle of the chaos, nothing that it started lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from controlplane.environment import ROOT
from tests.watchdog import MARK, left_behind

#: Starts some servers and stops one of them, so that it hears of nothing, and says where.
SCRIPT = """
import os, signal, time
from pathlib import Path
from tests.stack import DIRECTORY
from tests.site.chaos.site import ChaosTrial
from tests.site.test_chaos import told_to_end

def test_it():
    (DIRECTORY / "chaos").mkdir()
    with told_to_end(), ChaosTrial(DIRECTORY / "chaos") as trial:
        trial.start_valkey()
        trial.start_web()
        trial._wait("web", lambda: "Booting worker" in trial.tail("web"), 60)
        os.kill(trial.processes["web"].pid, signal.SIGSTOP)
        Path(os.environ["SAYS"]).write_text(str(DIRECTORY))
        time.sleep(100)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    script, says = tmp_path / "test_script.py", tmp_path / "says"
    script.write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k not in (MARK, "PYTEST_XDIST_WORKER")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-s", "--rootdir", str(ROOT), str(script)]
    pytest_process = subprocess.Popen(
        command, cwd=ROOT, env=environment | {"SAYS": str(says), "TEST_DATABASE": "postgresql"},
        stdout=subprocess.DEVNULL, start_new_session=True, preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    try:
        wait_until(lambda: says.exists() and says.read_text())
        directory = Path(says.read_text())
        assert len(list(left_behind(directory))) >= 5, "a web server and its worker, two Valkeys and PostgreSQL's"
        pytest_process.send_signal(number)
        pytest_process.wait(30)
        wait_until(lambda: not list(left_behind(directory)) and not directory.exists())
    finally:
        pytest_process.kill()
        pytest_process.wait()


def hear_ctrl_c() -> None:
    """Shells have what they start in the background ignore SIGINT, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(so: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not so():
        assert time.monotonic() < end
        time.sleep(0.1)
